#!/bin/sh
# Runs every fuzz target of the module, each for the time that is given.
set -eu
time=${1:-4s}
for dir in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go); do
		echo "fuzz $(basename "$dir") $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir" | grep -v '^fuzz: ' || {
			echo "$target failed" >&2
			exit 1
		}
	done
done
