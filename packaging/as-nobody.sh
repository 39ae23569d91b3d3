#!/bin/sh
# go test -exec: runs a test binary as an ordinary user. The go tool's temporary
# directory is closed to others, so the binary is copied out of it.
set -eu
binary=$1
shift
[ "$(id -u)" = 0 ] || exec "$binary" "$@"
dir=$(mktemp -d /tmp/tnat64-nobody.XXXXXX)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
cp "$binary" "$dir/"
mkdir -m 777 "$dir/tmp"
env -u TNAT64_REQUIRE_PRIVILEGED HOME="$dir/tmp" TMPDIR="$dir/tmp" \
	setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all \
	"$dir/$(basename "$binary")" "$@"
