#!/bin/sh
# Runs every fuzz target of the module, each for the time (5m) or the number of
# inputs (10000x) that is given. A number is the surer one: Go sometimes reports
# the end of the time itself as a failure, "context deadline exceeded".
#
# What is tried is the same in every run, unless TNAT64_SEED is set: the seed is, and
# it begins without the inputs that earlier runs found. FUZZCACHE names a directory
# that keeps them.
set -eu
export GODEBUG="${GODEBUG:+$GODEBUG,}fuzzseed=${TNAT64_SEED:-1}"
time=${1:-10000x}
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cache=${FUZZCACHE:-$temp/cache}
go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}} {{.ImportPath}}{{end}}' ./... >"$temp/packages"
while read -r dir import; do
	targets=$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go)
	[ -n "$targets" ] || continue
	# One test binary for all targets of a package; -fuzz adds the coverage
	# counters that guide the fuzzer.
	go test -c -vet=off -fuzz . -o "$temp/test" "$dir"
	for target in $targets; do
		if (cd "$dir" && "$temp/test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" \
			-test.fuzzminimizetime 5x -test.fuzzcachedir "$cache/$import") >"$temp/log" 2>&1; then
			echo "fuzz $(basename "$dir") $target: $(grep -o 'execs: [0-9]*' "$temp/log" | tail -1)"
		else
			cat "$temp/log"
			exit 1
		fi
	done
done <"$temp/packages"
