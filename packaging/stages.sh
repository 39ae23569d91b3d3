#!/bin/sh
# stages.sh MAKE STAGE...: makes one target after another, says how long each
# took, and ends with the first that fails. STAGE& runs beside those that follow,
# which give way to it, until the word "wait"; its output comes then.
set -u
make=$1
shift
summary='' beside='' pid=''
log=$(mktemp)
trap '[ -z "$pid" ] || kill -- "-$pid" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# report STAGE BEGIN END STATUS
report() {
	line=$(printf '%-18s %5d s' "$1" $(($3 - $2)))
	summary="$summary$line
"
	if [ "$4" -ne 0 ]; then
		printf '%s\nfailed: %s\n' "$summary" "$1" >&2
		exit "$4"
	fi
	echo "== $line"
}

for stage in "$@"; do
	case $stage in
	*"&")
		beside=${stage%&}
		since=$(date +%s)
		# A process group of its own, so that it can be ended with all its children.
		setsid "$make" --no-print-directory "$beside" >"$log" 2>&1 </dev/null &
		pid=$!
		;;
	wait)
		wait "$pid"
		status=$?
		pid=''
		cat "$log"
		report "$beside" "$since" "$(stat -c %Y "$log")" $status
		;;
	*)
		begin=$(date +%s)
		nice -n "$([ -z "$pid" ] && echo 0 || echo 5)" "$make" --no-print-directory "$stage"
		status=$?
		report "$stage" "$begin" "$(date +%s)" $status
		;;
	esac
done
printf '\n%s' "$summary"
