#!/bin/sh
# packages.sh [ARCHITECTURE...]: builds deb, rpm and Arch Linux packages of the
# daemon (tnat64d), of `tnat64 COMMAND` (tnat64) and of the gateway
# (tnat64-gateway) into dist/ (or $DIST), for amd64 and arm64 unless told otherwise. The same commit
# gives the same bytes on every machine with the same Go.
#
# VERSION and SOURCE_DATE_EPOCH come from git; where there is none, say them.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
dist=${DIST:-$root/dist}
GO=${GO:-go}
cd "$root"

# A tree may belong to somebody else (sudo make packages).
git() { command git -c safe.directory="$root" "$@"; }

VERSION=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo unknown)}
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"

# Package versions begin with a digit and have no hyphen. v1.2.3-rc1 becomes
# 1.2.3~rc1, which sorts before 1.2.3; what comes later sorts after, and a tree
# without tags by its date.
package_version() {
	case $VERSION in
	v[0-9]*)
		echo "${VERSION#v}" | sed -e 's/-\([0-9]*\)-g/+\1.g/' -e 's/-dirty$/.dirty/' -e 's/-/~/g'
		;;
	*) echo "0.0.0+$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$VERSION" | sed 's/-/./g' ;;
	esac
}
NFPM_VERSION=$(package_version)
export NFPM_VERSION

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
# The name of this directory, times and permissions of the working tree must not
# get into the packages: nfpm sees copies, by relative names.
mkdir "$stage/doc" "$stage/man" "$stage/packaging"
cp LICENSE "$stage/"
cp README.md SECURITY.md "$stage/doc/"
cp -R packaging/systemd packaging/networkmanager packaging/networkd packaging/udev packaging/completions \
	packaging/deb packaging/rpm packaging/arch packaging/tnat64d.toml.example packaging/apparmor packaging/shim \
	packaging/gateway packaging/gateway.toml.example packaging/nfpm.yaml packaging/nfpm-tnat64.yaml packaging/nfpm-tnat64-gateway.yaml "$stage/packaging/"
gzip -9n <CHANGELOG.md >"$stage/doc/changelog.gz"
maintainer=$(sed -n 's/^maintainer: //p' packaging/nfpm.yaml)
debian_changelog() {
	cat <<CHANGELOG
$1 ($2$NFPM_VERSION-1) unstable; urgency=medium

  * What is new is in changelog.gz.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
}
debian_changelog tnat64d "" | gzip -9n >"$stage/doc/changelog.Debian.gz"
debian_changelog tnat64 "$(sed -n 's/^epoch: "\(.*\)"$/\1:/p' packaging/nfpm-tnat64.yaml)" | gzip -9n >"$stage/doc/changelog.Debian-tnat64.gz"
debian_changelog tnat64-gateway "" | gzip -9n >"$stage/doc/changelog.Debian-tnat64-gateway.gz"

# Developer tools are built once and not for the packages' architecture.
tools=packaging/tools/go.mod
"$GO" build -modfile=$tools -o "$stage/" github.com/goreleaser/nfpm/v2/cmd/nfpm github.com/cpuguy83/go-md2man/v2
"$GO" build -o "$stage/notices" ./packaging/notices
for page in packaging/man/*.md; do
	name=$(basename "$page" .md)
	"$stage/go-md2man" -in "$page" | gzip -9n >"$stage/man/$name.gz"
done

mkdir -p "$dist"
[ $# -gt 0 ] || set -- amd64 arm64
for arch in "$@"; do
	rm -rf "${stage:?}/bin" "$stage/bin-shim" "$stage/bin-gateway"
	mkdir "$stage/bin" "$stage/bin-shim" "$stage/bin-gateway"
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOAMD64=v1 GOARM64=v8.0 GOFLAGS='' "$GO" build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$stage/bin/" ./cmd/tnat64d ./cmd/tnat64ctl ./cmd/tnat64-lab ./cmd/tnat64 ./cmd/tnat64-gateway
	mv "$stage/bin/tnat64" "$stage/bin-shim/"
	mv "$stage/bin/tnat64-gateway" "$stage/bin-gateway/"
	"$stage/notices" "$stage"/bin/* | gzip -9n >"$stage/doc/third-party-notices.gz"
	"$stage/notices" "$stage/bin-shim/tnat64" | gzip -9n >"$stage/doc/third-party-notices-tnat64.gz"
	"$stage/notices" "$stage/bin-gateway/tnat64-gateway" | gzip -9n >"$stage/doc/third-party-notices-tnat64-gateway.gz"
	find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	export NFPM_ARCH="$arch"
	for format in deb rpm archlinux; do
		for description in nfpm nfpm-tnat64 nfpm-tnat64-gateway; do
			(cd "$stage" && umask 022 && ./nfpm package -f packaging/$description.yaml -p $format -t "$dist/") | sed -n 's/^created package: //p'
		done
	done
done
