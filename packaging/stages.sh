#!/bin/sh
# stages.sh MAKE STAGE...: makes one target after another, says how long each
# took, and ends with the first that fails. At the end it lists the tests that
# passed only when they ran once more.
set -u
make=$1
shift
summary=
TNAT64_UNSTEADY=$(mktemp)
export TNAT64_UNSTEADY
trap 'rm -f "$TNAT64_UNSTEADY"' EXIT
for stage in "$@"; do
	begun=$(date +%s)
	"$make" --no-print-directory "$stage"
	status=$?
	line=$(printf '%-18s %5d s' "$stage" $(($(date +%s) - begun)))
	summary="$summary$line
"
	if [ $status -ne 0 ]; then
		printf '%s\nfailed: %s\n' "$summary" "$stage" >&2
		exit $status
	fi
	echo "== $line"
done
printf '\n%s' "$summary"
sed 's/^/failed once, passed once more: /' "$TNAT64_UNSTEADY"
