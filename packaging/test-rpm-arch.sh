#!/bin/bash
# test-rpm-arch.sh OLD NEW: installs the rpm and Arch Linux packages of tnat64d,
# tnat64 and tnat64-gateway in directory OLD by dnf and pacman into a root
# directory, upgrades to those in NEW, and removes them. The packages' scripts
# run in the directory, with this machine's systemctl and systemd-sysusers, which
# change its files; their calls are noted. Needs root and amd64.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
old=$(realpath "$1") new=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "test-rpm-arch: $format: $package: $*" >&2
	exit 1
}

# with_libraries DIRECTORY PROGRAM: copies a program and its libraries.
with_libraries() {
	cp --parents "$2" "$1"
	ldd "$2" | sed -n 's/.*[[:space:]]\(\/[^ ]*\) (.*/\1/p' | while read -r library; do cp -L --parents "$library" "$1"; done
}

# skeleton DIRECTORY: a shell, and programs of systemd that note their arguments
# in /calls and run without a manager. Presets enable nothing, as Fedora's.
skeleton() {
	mkdir -p "$1/bin" "$1/usr/bin" "$1/usr/lib/systemd/system-preset" "$1/usr/lib/real" "$1/etc/systemd/system" "$1/dev" "$1/run" "$1/tmp" "$1/var/lib"
	mknod -m 666 "$1/dev/null" c 1 3
	cp /bin/busybox "$1/bin/busybox"
	for name in sh rm cat echo tee; do ln -s busybox "$1/bin/$name"; done
	printf 'root:x:0:0::/:/bin/sh\n' >"$1/etc/passwd"
	printf 'root:x:0:\n' >"$1/etc/group"
	for name in systemctl systemd-sysusers; do
		with_libraries "$1" "$(command -v $name)"
		mv "$1$(command -v $name)" "$1/usr/lib/real/$name"
		# shellcheck disable=SC2016 # expanded when it runs
		printf '#!/bin/sh\necho "%s $*" >>/calls\nexport SYSTEMD_OFFLINE=1 SYSTEMD_LOG_LEVEL=err\nexec /usr/lib/real/%s "$@"\n' "$name" "$name" >"$1/usr/bin/$name"
		chmod +x "$1/usr/bin/$name"
	done
	# Of systemd's helper for rpm, which Debian does not have, what it does to files.
	cat >"$1/usr/lib/systemd/systemd-update-helper" <<-'HELPER'
		#!/bin/sh
		echo "systemd-update-helper $*" >>/calls
		command=$1
		shift
		case $command in
		install-system-units) exec systemctl --no-reload preset "$@" ;;
		remove-system-units) exec systemctl --no-reload disable "$@" ;;
		esac
	HELPER
	chmod +x "$1/usr/lib/systemd/systemd-update-helper"
	echo 'disable *' >"$1/usr/lib/systemd/system-preset/99-default.preset"
	: >"$1/calls"
}

# ours: the files of tnat64 in the root directory, with modes and links.
ours() {
	(cd "$r" && find etc usr var/lib run -name '*tnat64*' ! -name '*.rpmnew' ! -name '*.pacnew' ! -path 'var/lib/pacman/*' -printf '%p %M %l\n' | sort)
}

# state: whether the unit is enabled.
state() { systemctl --root="$r" is-enabled "$unit" 2>/dev/null || true; }

# called CALL: the last step called systemd so.
called() { grep -qxF -- "$1" "$r/calls" || fail "no \"$1\" among: $(cat "$r/calls")"; }

# story PACKAGE PROGRAM CONFIGURATION UNITS SYSUSERS: install, edit the
# configuration, enable the first unit, upgrade, remove, which stops all units; "-"
# is none of that. install, upgrade and remove are functions of the format.
story() {
	package=$1
	local program=$2 configuration=$3 units=$4
	unit=${units%% *}
	local sysusers=$5 first second installed before left
	r=$work/$format-$package
	skeleton "$r"
	before=$(ours)
	install
	[ -x "$r/usr/bin/$program" ] || fail "/usr/bin/$program is not installed"
	first=$(chroot "$r" "/usr/bin/$program" -version)
	if [ "$unit" != - ]; then
		[ "$(state)" = disabled ] || fail "after the installation the unit is $(state), want disabled"
	fi
	if [ "$sysusers" != - ]; then
		# pacman's systemd has a hook that does this.
		if [ $format = archlinux ]; then chroot "$r" /usr/bin/systemd-sysusers "$sysusers.conf"; fi
		called "systemd-sysusers $sysusers.conf"
		grep -q "^$sysusers:x:[0-9]*:[0-9]*:.*:/var/lib/$sysusers:.*nologin" "$r/etc/passwd" || fail "no user $sysusers: $(cat "$r/etc/passwd")"
	fi
	case $package in
	tnat64d) chroot "$r" /usr/bin/tnat64d -check || fail "the installed configuration is refused" ;;
	tnat64-gateway) command install -D -m 644 "$r/usr/share/doc/tnat64-gateway/examples/gateway.toml" "$r$configuration" ;;
	esac
	[ "$configuration" = - ] || echo '# edited' >>"$r$configuration"
	if [ "$unit" != - ]; then
		systemctl -q --root="$r" enable "$unit"
		[ "$(state)" = enabled ] || fail "the unit cannot be enabled"
	fi
	installed=$(ours)
	: >"$r/calls"
	upgrade
	second=$(chroot "$r" "/usr/bin/$program" -version)
	[ "$first" != "$second" ] || fail "the upgrade leaves $first"
	[ "$configuration" = - ] || grep -q '^# edited' "$r$configuration" || fail "the upgrade replaces an edited configuration"
	[ "$(ours)" = "$installed" ] || fail "the upgrade changes files: $(diff <(echo "$installed") <(ours))"
	if [ "$unit" != - ]; then
		[ "$(state)" = enabled ] || fail "after the upgrade the unit is $(state), want enabled"
		if [ $format = rpm ]; then called "systemd-update-helper mark-restart-system-units $unit"; fi
		! grep -qE 'remove-system-units|disable' "$r/calls" || fail "the upgrade removes the old version's unit: $(cat "$r/calls")"
		mkdir -p "$r/var/lib/$sysusers" "$r/run/$sysusers"
	fi
	: >"$r/calls"
	remove
	left=$(ours | grep -Ev '\.(rpmsave|pacsave) |^etc/tnat64 |^var/lib/(rpm|pacman|dnf)' || true)
	[ "$left" = "$before" ] || fail "left behind: $left"
	[ "$configuration" = - ] || grep -rqs '^# edited' "$r/etc/tnat64" || fail "the edited configuration is lost"
	if [ "$unit" != - ]; then
		if [ $format = rpm ]; then called "systemd-update-helper remove-system-units $units"; else called "systemctl --no-reload disable --now $units"; fi
	fi
	echo "ok   $format: $package: install, upgrade ($(echo "$first" | cut -d' ' -f2) to $(echo "$second" | cut -d' ' -f2)), remove"
}

stories() {
	story tnat64d tnat64d /etc/tnat64/tnat64d.toml "tnat64d.service tnat64d-cleanup.service" tnat64
	story tnat64 tnat64 - - -
	story tnat64-gateway tnat64-gateway /etc/tnat64/gateway.toml tnat64-gateway.service tnat64-gateway
}

format=rpm
mkdir "$work/stub"
cat >"$work/stub.yaml" <<YAML
name: systemd
arch: amd64
platform: linux
version: "257"
description: stands in for systemd
maintainer: nobody <nobody@example.net>
YAML
(cd "$root" && ${GO:-go} tool -modfile=packaging/tools/go.mod nfpm package -f "$work/stub.yaml" -p rpm -t "$work/stub/" >/dev/null)
dnf() {
	command dnf -y -q --installroot="$r" --releasever=42 --nogpgcheck --setopt=reposdir=/nonexistent --setopt=cachedir="$work/cache" "$@" >"$work/log" 2>&1 ||
		fail "dnf $*: $(cat "$work/log")"
	! grep -q 'scriptlet failed' "$work/log" || fail "dnf $*: $(cat "$work/log")"
}
install() { dnf install "$work"/stub/*.rpm "$old/$package"-[0-9]*.x86_64.rpm; }
upgrade() { dnf upgrade "$new/$package"-[0-9]*.x86_64.rpm; }
remove() { dnf remove "$package"; }
stories

format=archlinux
cat >"$work/pacman.conf" <<CONF
[options]
Architecture = x86_64
SigLevel = Never
LocalFileSigLevel = Never
CONF
pacman() {
	mkdir -p "$r/var/lib/pacman"
	command pacman --config "$work/pacman.conf" --root "$r" --dbpath "$r/var/lib/pacman" --cachedir "$work/cache" --noconfirm "$@" >"$work/log" 2>&1 ||
		fail "pacman $*: $(cat "$work/log")"
	grep -q 'error:' "$work/log" && fail "pacman $*: $(cat "$work/log")"
	return 0
}
install() { pacman -U --assume-installed systemd=257 "$old/$package"-[0-9]*-x86_64.pkg.tar.zst; }
upgrade() { pacman -U --assume-installed systemd=257 "$new/$package"-[0-9]*-x86_64.pkg.tar.zst; }
remove() { pacman -R "$package"; }
stories
