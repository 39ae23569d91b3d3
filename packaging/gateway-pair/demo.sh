#!/bin/bash
# Two tnat64-gateways as active and standby, in network namespaces of this machine:
# a TCP connection, a UDP flow and pings of one IPv6-only host go on when the active
# one dies. Needs root, keepalived and conntrackd.
#
#	packaging/gateway-pair/demo.sh BIN
set -euo pipefail
bin=$(realpath "$1") here=$(dirname "$(realpath "$0")") id=tp$$- dir=$(mktemp -d)
pids=()
# shellcheck disable=SC2317 # by trap
finish() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || :; done
	for ns in c s g1 g2 lan wan; do
		ip netns pids "$id$ns" 2>/dev/null | xargs -r kill -9 2>/dev/null || :
		ip netns del "$id$ns" 2>/dev/null || :
	done
	rm -rf "$dir"
}
trap finish EXIT
on() { local ns=$id$1; shift; ip netns exec "$ns" "$@"; }

for ns in c s g1 g2 lan wan; do
	ip netns add "$id$ns"
	on $ns ip link set lo up
done
for net in lan wan; do
	on $net ip link add br0 type bridge
	on $net ip link set br0 up
done
active() { [ -n "$(on "g$1" ip addr show dev wan0 to 203.0.113.10)" ]; }
join() { # host, its interface, network
	ip link add "$2" netns "$id$1" type veth peer name "p$1" netns "$id$3"
	on "$3" ip link set "p$1" master br0 up
}
join c eth0 lan
join s eth0 wan
ip link add sync0 netns "${id}g1" type veth peer name sync0 netns "${id}g2"
for i in 1 2; do
	join g$i lan0 lan
	join g$i wan0 wan
	on g$i sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1 net.netfilter.nf_conntrack_tcp_be_liberal=1
	on g$i ip -6 addr add 2001:db8:1::$i/64 dev lan0 nodad
	on g$i ip addr add 203.0.113.$i/24 dev wan0
	on g$i ip addr add 192.0.2.$i/30 dev sync0
	for l in lan0 wan0 sync0; do on g$i ip link set $l up; done
	on g$i ip route add default via 203.0.113.254
done
on c ip -6 addr add 2001:db8:1::10/64 dev eth0 nodad
on c sysctl -qw net.ipv6.conf.eth0.autoconf=0 # the static map is that of its address
on c ip link set eth0 up # it finds its default router by router advertisements
on s ip addr add 203.0.113.254/24 dev eth0
on s ip addr add 198.51.100.7/32 dev lo
on s ip link set eth0 up

for i in 1 2; do
	d=$dir/g$i
	mkdir "$d"
	{ cat "$here/gateway.toml"; printf '[control]\nsocket = "%s/socket"\n' "$d"; } > "$d/gateway.toml"
	sed "s/OWN/192.0.2.$i/; s/OTHER/192.0.2.$((3 - i))/; s,/run/conntrackd,$d/conntrackd," "$here/conntrackd.conf" > "$d/conntrackd.conf"
	printf '#!/bin/sh\nCONNTRACKD_CONF=%s exec "%s" "$@"\n' "$d/conntrackd.conf" "$here/pair-notify" > "$d/pair-notify"
	chmod 700 "$d/pair-notify"
	sed "s/PRIORITY/$((150 - 50 * (i - 1)))/; s,/etc/tnat64/pair-notify,$d/pair-notify," "$here/keepalived.conf" > "$d/keepalived.conf"
	RUNTIME_DIRECTORY=$d STATE_DIRECTORY=$d on g$i "$bin/tnat64-gateway" -config "$d/gateway.toml" > "$d/gateway.log" 2>&1 & pids+=($!)
	on g$i conntrackd -C "$d/conntrackd.conf" > "$d/conntrackd.log" 2>&1 & pids+=($!)
	on g$i keepalived -n -l -D -f "$d/keepalived.conf" -p "$d/k.pid" -r "$d/v.pid" > "$d/keepalived.log" 2>&1 & pids+=($!)
	# The first one becomes active.
	for _ in $(seq 300); do active 1 && break; sleep 0.1; done
done
cat > "$dir/echo.py" <<'END'
import socket, threading
def each(c):
    while b := c.recv(100): c.sendall(b)
t = socket.create_server(("198.51.100.7", 7)); u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("198.51.100.7", 7))
def udp():
    while True: b, a = u.recvfrom(100); u.sendto(b, a)
threading.Thread(target=udp, daemon=True).start()
while True: threading.Thread(target=each, args=(t.accept()[0],), daemon=True).start()
END
cat > "$dir/client.py" <<'END'
import socket, sys, time
kind, seconds, out = sys.argv[1], float(sys.argv[2]), sys.argv[3]
to = ("2001:db8:64::c633:6407", 7)
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM if kind == "TCP" else socket.SOCK_DGRAM)
s.settimeout(60 if kind == "TCP" else 0.2); s.connect(to)
begun = last = time.monotonic(); gap = n = 0
while time.monotonic() - begun < seconds:
    s.send(b"%d\n" % n)
    try: answer = s.recv(100)
    except TimeoutError: continue
    if not answer: sys.exit(kind + " connection was closed")
    now = time.monotonic(); gap = max(gap, now - last); last = now; n += 1
    open(out, "w").write("%d" % n)
    time.sleep(0.1)
print("%s: %d answers, the longest gap was %.1f s" % (kind, n, gap))
if time.monotonic() - last > 10: sys.exit(kind + " did not go on")
END
on s python3 "$dir/echo.py" & pids+=($!)
for _ in $(seq 300); do [ -n "$(on s ss -Htln sport = 7)" ] && break; sleep 0.1; done
for _ in $(seq 300); do on c ping -6 -n -c 1 -W 1 2001:db8:64::c633:6407 > /dev/null 2>&1 && break; sleep 0.1; done
active 1 || { echo "the first gateway is not active" >&2; cat "$dir/g1/"*.log >&2; exit 1; }
router() { on c ip -6 route show default | grep -o 'via [^ ]* dev eth0 proto ra'; }
[ "$(router)" = "via fe80::64 dev eth0 proto ra" ] || { echo "the host's default router: $(router)" >&2; exit 1; }
echo "g1 is active; a TCP connection, a UDP flow and pings from 2001:db8:1::10 to 198.51.100.7"
clients=()
for kind in TCP UDP; do
	on c python3 "$dir/client.py" $kind 30 "$dir/$kind" & clients+=($!)
done
on c ping -6 -n -i 0.2 -w 30 2001:db8:64::c633:6407 > "$dir/ping" & clients+=($!)
for kind in TCP UDP; do
	for _ in $(seq 300); do [ -s "$dir/$kind" ] && [ "$(cat "$dir/$kind")" -gt 5 ] 2> /dev/null && break; sleep 0.1; done
done
# The other one has heard of both, with their outside addresses.
heard=0
for _ in $(seq 300); do
	heard=$(on g2 conntrackd -C "$dir/g2/conntrackd.conf" -e | grep -c 'src=100.64.0.10 dst=198.51.100.7 .*dport=7 .*ASSURED' || :)
	[ "$heard" -ge 2 ] && break
	sleep 0.1
done
echo "g2 has heard of $heard connections"
[ "$heard" -ge 2 ] || { cat "$dir"/g?/conntrackd.log >&2; exit 1; }
echo "g1 dies: its links go down and its processes are killed"
for l in lan0 wan0 sync0; do on g1 ip link set $l down; done
ip netns pids "${id}g1" | xargs -r kill -9
status=0
for p in "${clients[@]}"; do wait "$p" || status=1; done
tail -2 "$dir/ping" | head -1
sed -n 's/.*\(Committed [0-9]* new entries\)/g2: conntrackd \1/p' "$dir/g2/conntrackd.log"
active 2 || { echo "the second gateway is not active" >&2; status=1; }
advertised=$("$bin/tnat64ctl" -gateway -socket "$dir/g2/socket" status -json |
	python3 -c 'import json, sys; print(json.load(sys.stdin)["gateway"]["advertise"][0]["sent"])') || advertised=0
echo "g2 has sent $advertised router advertisements; the host's default router: $(router)"
if [ "$advertised" = 0 ] || [ "$(router)" != "via fe80::64 dev eth0 proto ra" ]; then status=1; fi
[ $status = 0 ] || tail -n 30 "$dir/g2/"*.log >&2
exit $status
