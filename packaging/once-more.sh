#!/bin/bash
# once-more.sh COMMAND ARGUMENT...: runs a test binary. One or two tests that fail
# run once more, alone, so that a machine that was busy does not hide the rest of
# the result. It does not hide the failure: that is printed, and stages.sh lists the
# test at the end. Such a test, or what it tests, is to be mended. After a panic, a
# data race or a timeout nothing runs again.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" 2>&1 | tee "$log"
status=$?
if [ $status = 0 ] || grep -Eq '(^|[[:space:]])(panic|fatal error|WARNING: DATA RACE|SIGSEGV|SIGBUS|SIGQUIT)(:|$)' "$log"; then
	exit $status
fi
mapfile -t failed < <(sed -n 's/^--- FAIL: \([A-Za-z0-9_]*\) .*/\1/p' "$log" | sort -u)
if [ ${#failed[@]} = 0 ] || [ ${#failed[@]} -gt 2 ]; then
	exit $status
fi
tests=$(IFS='|' && echo "${failed[*]}")
echo "once more: $tests"
"$@" "-test.run=^($tests)\$" || exit
[ -z "${TNAT64_UNSTEADY-}" ] || printf '%s\n' "${failed[@]}" >>"$TNAT64_UNSTEADY"
