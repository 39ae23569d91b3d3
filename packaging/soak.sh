#!/bin/sh
# soak.sh DURATION: the random tests and the fuzz targets with fresh seeds, again
# and again, for a time such as 30m or 8h. A failure names its seed:
# TNAT64_SEED=N repeats it.
set -eu
duration=${1:-30m}
case $duration in
*h) seconds=$((${duration%h} * 3600)) ;;
*m) seconds=$((${duration%m} * 60)) ;;
*s) seconds=${duration%s} ;;
*) echo "soak.sh: $duration is no duration such as 90s, 30m or 8h" >&2 && exit 2 ;;
esac
GO=${GO:-go}
FUZZCACHE=$("$GO" env GOCACHE)/fuzz
export FUZZCACHE
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for package in clat datapath/engine datapath/steer e2e; do
	"$GO" test -c -o "$work/$(echo "$package" | tr / -)" "./$package"
done

# one PACKAGE PATTERN: runs the tests that match with the seed of the round.
one() {
	if ! (cd "$1" && "$work/$(echo "$1" | tr / -)" -test.run "$2" -test.timeout 20m >"$work/log" 2>&1); then
		cat "$work/log"
		echo "soak: TNAT64_SEED=$TNAT64_SEED go test -run '$2' ./$1" >&2
		exit 1
	fi
}

end=$(($(date +%s) + seconds))
rounds=0
while [ "$(date +%s)" -lt $end ]; do
	TNAT64_SEED=$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')
	export TNAT64_SEED
	echo "TNAT64_SEED=$TNAT64_SEED"
	one clat '^Test(Chaos|DriftIsRestoredWithinTheLimit)$'
	one datapath/engine '^TestICMPFragments'
	one datapath/steer '^TestDifferential'
	one e2e '^TestChaos$'
	[ "$(date +%s)" -ge $end ] || packaging/fuzz.sh "${FUZZTIME:-20000x}" || {
		echo "soak: TNAT64_SEED=$TNAT64_SEED packaging/fuzz.sh" >&2
		exit 1
	}
	rounds=$((rounds + 1))
done
echo "$rounds rounds without a failure"
