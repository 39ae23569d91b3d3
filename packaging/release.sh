#!/bin/sh
# release.sh: everything of a release into dist/: packages, what is in them (SPDX),
# what is new, and checksums of it all. Nothing is fetched but Go modules, and
# nothing is published.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
export DIST="${DIST:-$root/dist}"
GO=${GO:-go}

rm -rf "${DIST:?}"
packaging/packages.sh

git() { command git -c safe.directory="$root" "$@"; }
VERSION=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo unknown)}
time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

# The programs as they are in the packages.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 "$GO" build -o "$work/sbom" ./packaging/sbom
for deb in "$DIST"/*.deb; do
	rm -rf "$work/root"
	dpkg-deb -x "$deb" "$work/root"
	"$work/sbom" -name "$(dpkg-deb -f "$deb" Package)" -version "$VERSION" -time "$time" "$work"/root/usr/bin/* >"${deb%.deb}.spdx.json"
done

# What is new: the section of this version, or what is not released yet.
section=Unreleased
case $VERSION in
v*-*-g* | *-dirty) ;;
v*) section=${VERSION#v} ;;
esac
awk -v section="$section" '
	/^## / { inside = ($2 == section || $2 == "[" section "]") }
	inside { print; lines++ }
	END { if (!lines) exit 1 }
' CHANGELOG.md >"$DIST/CHANGES.md" || {
	echo "CHANGELOG.md has no section \"## $section\"" >&2
	exit 1
}

(cd "$DIST" && rm -f SHA256SUMS && LC_ALL=C sha256sum -- * >"$work/sums" && mv "$work/sums" SHA256SUMS)
echo "$DIST:"
cat "$DIST/SHA256SUMS"
