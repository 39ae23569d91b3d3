#!/bin/sh
# test-matrix.sh: every row of the matrix of docs/tested.md that is not part of
# `make test`, one machine at a time. A row that fails does not end it. The summary,
# bin/test-matrix/summary.md, is a table: what, version, date, commit, how long it
# took, result. Needs root, and packages in dist/. With arguments, only rows that
# contain one of them run; `help` lists the rows.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
GO=${GO:-go}
logs=${LOGS:-$root/bin/test-matrix}
mkdir -p "$logs"
only=$*
help=
[ "$only" = help ] && help=yes
failed=0
commit=$(git -c safe.directory="$root" describe --always --dirty 2>/dev/null || echo unknown)
summary=$logs/summary.md
[ -n "$help" ] || printf '| what | version | date | commit | seconds | result |\n|---|---|---|---|---|---|\n' >"$summary"

# version LOG: the system or kernel that a row says it ran on.
version() {
	sed -n -e 's/^ *\(Debian GNU\/Linux .*\)/\1/p' -e 's/^kernel \(.*\) is up for .*/Linux \1/p' "$1" | grep -v ' ttyS0' | head -1
}

# row MINUTES NAME COMMAND...: MINUTES is how long it took when docs/tested.md
# was last written, - where that was not measured. The first run of a release takes
# some minutes more, for its root file system.
row() {
	minutes=$1
	name=$2
	shift 2
	if [ -n "$help" ]; then
		printf '%4s min  %s\n' "$minutes" "$name"
		result=help
		return 0
	fi
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
	line="| $name | $(version "$log") | $(date +%F) | $commit | $(($(date +%s) - begun)) | $result |"
	echo "$line"
	echo "$line" >>"$summary"
}

# shellcheck disable=SC2317 # row calls them
kernel() { "$GO" run ./packaging/test-kernel -timeout 3h "$@"; }
# shellcheck disable=SC2317
vm() { "$GO" run ./packaging/test-vm -v -timeout 3h "$@"; }

row - "kernel bookworm amd64" kernel
row - "kernel trixie amd64" kernel -release trixie
row - "kernel forky amd64" kernel -release forky
row - "kernel bookworm arm64" kernel -arch arm64
row - "networks bookworm" kernel -suites e2e:networks
row - "networks trixie" kernel -release trixie -suites e2e:networks
row - "networks forky" kernel -release forky -suites e2e:networks
row 10 "vm bookworm networkmanager" vm
row 10 "vm trixie networkmanager" vm -release trixie
row 10 "vm forky networkmanager" vm -release forky
row 4 "vm forky nm-clat" vm -release forky -story nm-clat
row 15 "vm bookworm networkd" vm -manager networkd
row 14 "vm bookworm ifupdown" vm -manager ifupdown
row 9 "vm bookworm dhcpcd" vm -manager dhcpcd
if [ -z "${result:-}" ]; then
	echo "test-matrix: no row contains one of: $only" >&2
	exit 2
fi
[ -z "$help" ] || exit 0
printf '\n'
cat "$summary"
exit $failed
