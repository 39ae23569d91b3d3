#!/bin/sh
# test-matrix.sh: every row of the matrix of docs/tested.md that is not part of
# `make test`, one machine at a time. A row that fails does not end it; the table
# at the end names the rows, how long each took, and its result. Needs root, and
# packages in dist/. With arguments, only rows that contain one of them run.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
GO=${GO:-go}
logs=${LOGS:-$root/bin/test-matrix}
mkdir -p "$logs"
only=$*
table=''
failed=0

# row NAME COMMAND...
row() {
	name=$1
	shift
	if [ -n "$only" ]; then
		found=
		for word in $only; do case $name in *"$word"*) found=yes ;; esac done
		[ -n "$found" ] || return 0
	fi
	log=$logs/$(echo "$name" | tr ' /' '--').log
	begun=$(date +%s)
	if "$@" >"$log" 2>&1; then result=pass; else
		result="FAIL, see $log"
		failed=1
	fi
	line=$(printf '%-32s %5d s  %s  %s' "$name" $(($(date +%s) - begun)) "$(date +%F)" "$result")
	echo "== $line"
	table="$table$line
"
}

# shellcheck disable=SC2317 # row calls them
kernel() { "$GO" run ./packaging/test-kernel -timeout 3h "$@"; }
# shellcheck disable=SC2317
vm() { "$GO" run ./packaging/test-vm -timeout 3h "$@"; }

row "kernel bookworm amd64" kernel
row "kernel trixie amd64" kernel -release trixie
row "kernel forky amd64" kernel -release forky
row "kernel bookworm arm64" kernel -arch arm64
row "vm bookworm networkmanager" vm
row "vm trixie networkmanager" vm -release trixie
row "vm forky networkmanager" vm -release forky
row "vm forky nm-clat" vm -release forky -story nm-clat
row "vm bookworm networkd" vm -manager networkd
row "vm bookworm ifupdown" vm -manager ifupdown
row "vm bookworm dhcpcd" vm -manager dhcpcd
printf '\n%s' "$table"
exit $failed
