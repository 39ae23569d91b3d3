#!/bin/bash
# test-image.sh: runs the OCI image in podman as the daemon of the lab's laptop,
# with the capabilities NET_ADMIN, NET_RAW and BPF, and without BPF (steering by
# nftables). Needs root and what `make image` and `make build` have made.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
storage=(podman --root "$work/storage" --runroot "$work/run" --cgroup-manager cgroupfs --events-backend file --runtime runc)
trap '"${storage[@]}" system reset --force >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
image=$("${storage[@]}" pull -q "oci-archive:$root/dist/tnat64d-image.tar" 2>"$work/pull.log") || { cat "$work/pull.log" >&2; exit 1; }
# try NAME CAPABILITIES SECCOMP STEERING: the daemon in the container gives the
# laptop its IPv4, says how packets come to it, and answers on its socket from
# inside. The limits are low because podman's own need CAP_SYS_RESOURCE.
try() {
	cat >"$work/tnat64d" <<SCRIPT
#!/bin/sh
exec ${storage[*]} run --rm --security-opt seccomp=$3 --ulimit nofile=1024:4096 --ulimit nproc=1024:1024 --name tnat64d-$1 --network host --read-only --log-driver none \\
	--cap-drop ALL --cap-add $2 --device /dev/net/tun --sdnotify ignore \\
	-v "\$RUNTIME_DIRECTORY:\$RUNTIME_DIRECTORY" -e NOTIFY_SOCKET -e RUNTIME_DIRECTORY -e STATE_DIRECTORY -e DBUS_SYSTEM_BUS_ADDRESS \\
	$image "\$@"
SCRIPT
	chmod +x "$work/tnat64d"
	SHELL=/bin/sh "$root/bin/tnat64-lab" shell -tnat64d "$work/tnat64d" >"$work/said" 2>&1 <<SCRIPT || { cat "$work/said" >&2; echo "test-image: $1: failed" >&2; exit 1; }
set -e
curl -sS --max-time 30 http://198.51.100.7/
ping -c 3 -i 0.2 -w 30 198.51.100.7 | grep '3 received'
tnat64ctl status
${storage[*]} exec tnat64d-$1 /usr/bin/tnat64ctl -socket "\$TNAT64_SOCKET" status -json >/dev/null
echo "inside: \$?"
SCRIPT
	for words in "you are 203.0.113." "3 received" 'IPv4 (works|is ready)' "inside: 0" "$4"; do
		grep -Eq -- "$words" "$work/said" || { cat "$work/said" >&2; echo "test-image: $1: \"$words\" is missing" >&2; exit 1; }
	done
	echo "ok   image with $2: $(grep -o 'steering .*' "$work/said" | head -1 | tr -s ' ')"
}
# The seccomp profile of podman 4.3 (Debian 12) allows bpf(2) only with
# CAP_SYS_ADMIN.
try bpf NET_ADMIN,NET_RAW,BPF unconfined 'steering +(tcx|clsact)'
try nftables NET_ADMIN,NET_RAW /usr/share/containers/seccomp.json 'steering +nftables'
