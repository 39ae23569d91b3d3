#!/bin/sh
# image.sh [ARCHITECTURE...]: writes the OCI image of tnat64d into
# dist/tnat64d-image.tar (or $DIST), for amd64 and arm64 unless told otherwise:
#
#	podman pull oci-archive:dist/tnat64d-image.tar
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
dist=${DIST:-$root/dist}
GO=${GO:-go}
cd "$root"
git() { command git -c safe.directory="$root" "$@"; }
VERSION=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo unknown)}
time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
[ $# -gt 0 ] || set -- amd64 arm64
"$GO" build -o "$stage/notices" ./packaging/notices
images=
for arch in "$@"; do
	mkdir "$stage/$arch"
	# The same binaries as in the packages.
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOAMD64=v1 GOARM64=v8.0 GOFLAGS='' "$GO" build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$stage/$arch/" ./cmd/tnat64d ./cmd/tnat64ctl
	"$stage/notices" "$stage/$arch"/* | gzip -9n >"$stage/third-party-notices.gz"
	mv "$stage/third-party-notices.gz" "$stage/$arch/"
	cp LICENSE "$stage/$arch/"
	images="$images $arch=$stage/$arch"
done
mkdir -p "$dist"
# shellcheck disable=SC2086 # a list of words
"$GO" run -C packaging/image . -version "$VERSION" -revision "$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
	-time "$time" -out "$dist/tnat64d-image.tar" $images
echo "$dist/tnat64d-image.tar"
