#!/bin/bash
# Three active tnat64-gateways that announce the same NAT64 prefix by BGP, in network namespaces of this machine: 30 IPv6-only hosts behind one router that
# spreads them by ECMP. One gateway dies, and another one is added. Needs root and
# BIRD 2 or FRR.
#
#	packaging/gateway-anycast/demo.sh BIN [bird|frr]
set -euo pipefail
bin=$(realpath "$1") routing=${2:-bird} here=$(dirname "$(realpath "$0")") id=ta$$- dir=$(mktemp -d)
pids=()
# shellcheck disable=SC2317 # by trap
finish() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || :; done
	for ns in c r s wan g1 g2 g3 g4; do
		ip netns pids "$id$ns" 2>/dev/null | xargs -r kill -9 2>/dev/null || :
		ip netns del "$id$ns" 2>/dev/null || :
	done
	rm -rf "$dir"
}
trap finish EXIT
on() { local ns=$id$1; shift; ip netns exec "$ns" "$@"; }
wait_for() { # what, command...
	local what=$1 until=$((SECONDS + 60))
	shift
	while [ $SECONDS -lt $until ]; do "$@" > /dev/null 2>&1 && return; sleep 0.1; done
	echo "$what: not within 60 s" >&2
	tail -n 20 "$dir"/*.log >&2
	exit 1
}
bgp_on() { # host, configuration
	if [ "$routing" = bird ]; then
		on "$1" bird -f -c "$2" -s "$dir/$1.ctl" -P "$dir/$1.pid" > "$dir/$1-bird.log" 2>&1 & pids+=($!)
		return
	fi
	local at=$dir/frr-$1
	chmod 755 "$dir" # FRR runs as its own user
	mkdir "$at"
	: > "$at/zebra.conf"
	cp "$2" "$at/bgpd.conf"
	chown -R frr:frr "$at"
	frr "$1" zebra
	frr "$1" bgpd
}
frr() { # host, daemon
	local at=$dir/frr-$1
	on "$1" "/usr/lib/frr/$2" -f "$at/$2.conf" -z "$at/zserv" -i "$at/$2.pid" --vty_socket "$at" > "$dir/$1-$2.log" 2>&1 & pids+=($!)
	wait_for "$2 on $1" test -e "$at/$2.vty"
}

for ns in c r s wan g1 g2 g3 g4; do
	ip netns add "$id$ns"
	on $ns ip link set lo up
done
on wan ip link add br0 type bridge
on wan ip link set br0 up
join() { # host, its interface
	ip link add "$2" netns "$id$1" type veth peer name "p$1" netns "${id}wan"
	on wan ip link set "p$1" master br0 up
}
on r sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.fib_multipath_hash_policy=3 net.ipv6.fib_multipath_hash_fields=1
ip link add eth0 netns "${id}c" type veth peer name lan0 netns "${id}r"
on r ip -6 addr add 2001:db8:1::1/64 dev lan0 nodad
on r ip link set lan0 up
for h in $(seq 10 39); do on c ip -6 addr add "2001:db8:1::$h/64" dev eth0 nodad; done
on c ip link set eth0 up
on c ip -6 route add default via 2001:db8:1::1
join s eth0
on s ip addr add 203.0.113.254/24 dev eth0
on s ip addr add 198.51.100.7/32 dev lo
on s ip link set eth0 up
for i in 1 2 3 4; do
	ip link add lan0 netns "${id}g$i" type veth peer name g$i netns "${id}r"
	join g$i wan0
	on g$i sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1
	on g$i ip -6 addr add 2001:db8:f$i::2/64 dev lan0 nodad
	on r ip -6 addr add 2001:db8:f$i::1/64 dev g$i nodad
	on g$i ip addr add 203.0.113.$i/24 dev wan0
	for l in lan0 wan0; do on g$i ip link set $l up; done
	on r ip link set g$i up
	on g$i ip route add default via 203.0.113.254
done

# The server tells each connection its address and sends back what it gets.
cat > "$dir/server.py" <<'END'
import socket, threading
def each(c, a):
    c.sendall(("%s\n" % a[0]).encode())
    try:
        while b := c.recv(100): c.sendall(b)
    except OSError: pass
t = socket.create_server(("198.51.100.7", 7), backlog=512)
while True: threading.Thread(target=each, args=t.accept(), daemon=True).start()
END
# The hosts: "open" and "check" on standard input, one line for each.
cat > "$dir/hosts.py" <<'END'
import collections, socket, sys, time
hosts = ["2001:db8:1::%d" % h for h in range(10, 40)]
kept = {}
def connect(h, seconds):
    until = time.monotonic() + seconds
    while True:
        s = socket.socket(socket.AF_INET6)
        s.settimeout(2)
        s.bind((h, 0))
        try:
            s.connect(("2001:db8:64::c633:6407", 7))
            return s, s.recv(100).decode().split()[0]
        except OSError:
            s.close()
            if time.monotonic() > until: return None, None
for line in sys.stdin:
    begun = time.monotonic()
    lost = 0
    for h, (s, _) in kept.items():
        try:
            s.sendall(b"x")
            if s.recv(1) != b"x": raise OSError
        except OSError: lost += 1
    before = {h: a for h, (_, a) in kept.items()}
    for s, _ in kept.values(): s.close()
    kept = {h: connect(h, 30) for h in hosts}
    again = {h: connect(h, 30) for h in hosts}
    for s, _ in again.values():
        if s: s.close()
    unserved = [h for h in hosts if kept[h][0] is None]
    uneven = [h for h in hosts if kept[h][1] != again[h][1]]
    by = collections.Counter(a for _, a in kept.values())
    print("%d hosts by %s; %d of %d open connections ended; all were served after %.1f s" % (
        len(hosts) - len(unserved), ", ".join("%s: %d" % x for x in sorted(by.items(), key=str)), lost, len(before), time.monotonic() - begun), flush=True)
    if unserved or uneven: print("FAILED: without service: %s; with two outside addresses: %s" % (unserved, uneven), flush=True)
END
on s python3 "$dir/server.py" & pids+=($!)
gateway() { # number
	sed "s/ROUTERID/192.0.2.$1/; s/ROUTER/2001:db8:f$1::1/" "$here/$routing-gateway.conf" > "$dir/g$1.conf"
	mkdir "$dir/g$1"
	{ cat "$here/gateway.toml"; printf '[control]\nsocket = "%s/g%s/socket"\n' "$dir" "$1"; } > "$dir/g$1/gateway.toml"
	RUNTIME_DIRECTORY=$dir/g$1 STATE_DIRECTORY=$dir/g$1 on "g$1" "$bin/tnat64-gateway" -config "$dir/g$1/gateway.toml" > "$dir/g$1.log" 2>&1 & pids+=($!)
	bgp_on "g$1" "$dir/g$1.conf"
}
bgp_on r "$here/$routing-router.conf"
for i in 1 2 3; do gateway $i; done
# shellcheck disable=SC2317 # by wait_for
ways() { [ "$(on r ip -6 route show 2001:db8:64::/96 | grep -o 'dev g[0-9]' | sort -u | tr -d '\n')" = "$1" ]; }
wait_for "the server listens" sh -c "[ -n \"\$(ip netns exec ${id}s ss -Htln sport = 7)\" ]"
wait_for "the router has three ways" ways "dev g1dev g2dev g3"
for i in 1 2 3; do wait_for "g$i knows the way back" sh -c "ip netns exec ${id}g$i ip -6 route show 2001:db8:1::/64 | grep -q via"; done

mkfifo "$dir/do" "$dir/done"
on c python3 "$dir/hosts.py" < "$dir/do" > "$dir/done" & pids+=($!)
exec 3> "$dir/do" 4< "$dir/done"
failed=0
hosts() { # the gateways that serve now
	local line more
	echo >&3
	read -r -t 200 line <&4 || { echo "the hosts do not answer" >&2; exit 1; }
	if read -r -t 1 more <&4; then echo "$more"; failed=1; fi
	echo "  $line"
	for g in "$@"; do
		case $line in *"203.0.113.$g: "*) ;; *) echo "FAILED: nobody uses gateway $g"; failed=1 ;; esac
	done
}
echo "three gateways:"
hosts 1 2 3
echo "g2 dies: its processes are killed and its links go down"
ip netns pids "${id}g2" | xargs -r kill -9
for l in lan0 wan0; do on g2 ip link set $l down; done
hosts 1 3
echo "g4 joins"
gateway 4
wait_for "the router has the new way" ways "dev g1dev g3dev g4"
wait_for "g4 knows the way back" sh -c "ip netns exec ${id}g4 ip -6 route show 2001:db8:1::/64 | grep -q via"
hosts 1 3 4
echo "tnat64-gateway stops on g1, whose BGP withdraws the prefix"
ip netns pids "${id}g1" | while read -r p; do [ "$(cat "/proc/$p/comm")" != tnat64-gateway ] || kill "$p"; done
wait_for "the router has two ways" ways "dev g3dev g4"
hosts 3 4
exit $failed
