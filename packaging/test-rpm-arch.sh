#!/bin/bash
# test-rpm-arch.sh OLD NEW: installs the rpm and Arch Linux packages of tnat64d
# in directory OLD by dnf and pacman into a root directory, upgrades to those in
# NEW, and removes them. Scripts run in the directory with a small shell; what
# they ask of systemd is noted. Needs root and amd64.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
old=$(realpath "$1") new=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "test-rpm-arch: $format: $*" >&2
	exit 1
}

# skeleton DIRECTORY: a shell, and programs of systemd that only note their
# arguments in /calls.
skeleton() {
	mkdir -p "$1/bin" "$1/usr/bin" "$1/usr/lib/systemd" "$1/etc" "$1/dev" "$1/run" "$1/tmp" "$1/var/lib"
	mknod -m 666 "$1/dev/null" c 1 3
	cp /bin/busybox "$1/bin/busybox"
	for name in sh rm cat echo; do ln -s busybox "$1/bin/$name"; done
	for name in bin/systemctl bin/systemd-sysusers lib/systemd/systemd-update-helper; do
		# shellcheck disable=SC2016 # expanded when it runs
		printf '#!/bin/sh\necho "%s $*" >>/calls\n' "${name##*/}" >"$1/usr/$name"
		chmod +x "$1/usr/$name"
	done
	: >"$1/calls"
}

# ours DIRECTORY: the files of tnat64 in it.
ours() { (cd "$1" && find etc usr var/lib run -name '*tnat64*' ! -name '*.rpmnew' ! -name '*.pacnew' ! -path 'var/lib/pacman/*' | sort); }

# story: install, edit the configuration, upgrade, remove; install, upgrade and
# remove are functions.
story() {
	r=$work/$format
	skeleton "$r"
	before=$(ours "$r")
	install
	for file in usr/bin/tnat64d usr/bin/tnat64ctl usr/lib/systemd/system/tnat64d.service etc/tnat64/tnat64d.toml; do
		[ -e "$r/$file" ] || fail "/$file is not installed"
	done
	chroot "$r" /usr/bin/tnat64d -check || fail "the installed configuration is refused"
	first=$(chroot "$r" /usr/bin/tnat64d -version)
	installed=$(ours "$r")
	echo '# edited' >>"$r/etc/tnat64/tnat64d.toml"
	upgrade
	second=$(chroot "$r" /usr/bin/tnat64d -version)
	[ "$first" != "$second" ] || fail "the upgrade leaves $first"
	grep -q '^# edited' "$r/etc/tnat64/tnat64d.toml" || fail "the upgrade replaces an edited configuration"
	[ "$(ours "$r")" = "$installed" ] || fail "the upgrade changes the list of files: $(diff <(echo "$installed") <(ours "$r"))"
	mkdir -p "$r/var/lib/tnat64" "$r/run/tnat64"
	remove
	left=$(ours "$r" | grep -Ev '\.(rpmsave|pacsave)$|^etc/tnat64$|^var/lib/(rpm|pacman|dnf)' || true)
	[ "$left" = "$before" ] || fail "left behind: $left"
	grep -rqs '^# edited' "$r/etc/tnat64" || fail "the edited configuration is lost"
	calls=$(sort -u "$r/calls")
	for call in "$@"; do
		grep -qxF -- "$call" <<<"$calls" || fail "no \"$call\" among: $calls"
	done
	echo "ok   $format: install, upgrade ($(echo "$first" | cut -d' ' -f2) to $(echo "$second" | cut -d' ' -f2)), remove"
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
}
install() { dnf install "$work"/stub/*.rpm "$old"/tnat64d-[0-9]*.x86_64.rpm; }
upgrade() { dnf upgrade "$new"/tnat64d-[0-9]*.x86_64.rpm; }
remove() { dnf remove tnat64d; }
story 'systemd-sysusers tnat64.conf' 'systemd-update-helper install-system-units tnat64d.service' \
	'systemd-update-helper mark-restart-system-units tnat64d.service' 'systemd-update-helper remove-system-units tnat64d.service'

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
install() { pacman -U --assume-installed systemd=257 "$old"/tnat64d-[0-9]*-x86_64.pkg.tar.zst; }
upgrade() { pacman -U --assume-installed systemd=257 "$new"/tnat64d-[0-9]*-x86_64.pkg.tar.zst; }
remove() { pacman -R tnat64d; }
story 'systemctl --no-reload disable --now tnat64d.service'
