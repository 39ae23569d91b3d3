#!/bin/sh
# Runs every fuzz target of the module, each for the time (5m) or the number of
# inputs (20000x) that is given. A number is the surer one: Go sometimes reports
# the end of the time itself as a failure, "context deadline exceeded".
#
# The seed of what is tried is the same in every run, unless TNAT64_SEED is set.
set -eu
export GODEBUG="${GODEBUG:+$GODEBUG,}fuzzseed=${TNAT64_SEED:-1}"
time=${1:-20000x}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for dir in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go); do
		if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5x "$dir" >"$log" 2>&1; then
			echo "fuzz $(basename "$dir") $target: $(grep -o 'execs: [0-9]*' "$log" | tail -1)"
		else
			cat "$log"
			exit 1
		fi
	done
done
