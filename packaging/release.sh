#!/bin/sh
# release.sh: writes a release into dist/: packages, lists of their contents
# (SPDX), the section of the changelog, and checksums of all of it. It fetches
# only Go modules and publishes nothing.
#
# RELEASE_KEY is the path of a private SSH key that signs the checksums. Only a
# tagged version is signed: git describes it as v1.2.3 or v1.2.3-rc1.
set -eu
here=$PWD
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
export DIST="${DIST:-$root/dist}"
GO=${GO:-go}

git() { command git -c safe.directory="$root" "$@"; }
VERSION=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo unknown)}
export VERSION
time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
RELEASE_KEY=${RELEASE_KEY:-}

# A relative path is relative to the caller's directory.
case $RELEASE_KEY in
"" | /*) ;;
*) RELEASE_KEY=$here/$RELEASE_KEY ;;
esac
if [ -n "$RELEASE_KEY" ]; then
	if ! printf '%s\n' "$VERSION" | grep -Eqx 'v[0-9]+\.[0-9]+\.[0-9]+(-(alpha|beta|rc)\.?[0-9]+)?'; then
		echo "release.sh: version $VERSION is not a tag: check out a tag without changes, or unset RELEASE_KEY" >&2
		exit 1
	fi
	if [ ! -r "$RELEASE_KEY" ]; then
		echo "release.sh: cannot read RELEASE_KEY $RELEASE_KEY" >&2
		exit 1
	fi
fi

# The changelog's section of this version, or Unreleased.
section=Unreleased
case $VERSION in
v*-*-g* | *-dirty) ;;
v*) section=${VERSION#v} ;;
esac
changes=$(awk -v section="$section" '
	/^## / { inside = ($2 == section || $2 == "[" section "]") }
	inside { print; lines++ }
	END { if (!lines) exit 1 }
' CHANGELOG.md) || {
	echo "release.sh: CHANGELOG.md has no section \"## $section\"" >&2
	exit 1
}

rm -rf "${DIST:?}"
packaging/packages.sh

# The programs as they are in the packages.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 "$GO" build -C packaging/sbom -o "$work/sbom" .
for deb in "$DIST"/*.deb; do
	rm -rf "$work/root"
	dpkg-deb -x "$deb" "$work/root"
	"$work/sbom" -name "$(dpkg-deb -f "$deb" Package)" -version "$VERSION" -time "$time" "$work"/root/usr/bin/* >"${deb%.deb}.spdx.json"
done

printf '%s\n' "$changes" >"$DIST/CHANGES.md"
packaging/checksums.sh "$DIST" "$RELEASE_KEY"
echo "$DIST:"
cat "$DIST/SHA256SUMS"
if [ -n "$RELEASE_KEY" ]; then echo "signed: SHA256SUMS.sig"; else echo "not signed: no RELEASE_KEY"; fi
