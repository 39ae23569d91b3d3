#!/bin/sh
# Installs the Debian packages that are named and not there yet. Tests and demos run
# the programs themselves: a service that Debian enables and starts with a package,
# such as sshd or named, is stopped and disabled.
set -eu
missing=
for p in "$@"; do
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "these packages are missing:$missing" >&2
	echo "hint: run as root, or install them yourself" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
systemctl show -p Version >/dev/null 2>&1 || exit 0 # no systemd that runs
for p in $missing; do
	for unit in $(dpkg -L "$p" | sed -n 's,^\(/usr\)\?/lib/systemd/system/\([^/@]*\.\(service\|socket\|timer\)\)$,\2,p'); do
		# Not one that others need ("static").
		[ "$(systemctl is-enabled "$unit" 2>/dev/null)" = enabled ] || continue
		systemctl -q disable --now "$unit" || echo "cannot disable $unit, which $p has brought" >&2
	done
done
