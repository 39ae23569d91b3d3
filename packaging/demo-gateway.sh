#!/bin/sh
# demo-gateway.sh [DIRECTORY]: shows tnat64-gateway on a network of four
# namespaces, with the programs in DIRECTORY (bin): two IPv6-only clients, the
# gateway, and an IPv4-only server. `make demo-gateway` calls it. Takes root;
# nothing is left behind.
set -eu
bin=$(cd "${1:-bin}" && pwd)
tag=tnat64-demo-$$
tmp=$(mktemp -d)
: >"$tmp/pids"

clean_up() {
	trap - EXIT INT TERM
	# The latest first: the gateway ends before its network goes.
	tac "$tmp/pids" | while read -r pid; do
		kill "$pid" 2>/dev/null || true
		for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
	done
	for h in phone laptop gateway server; do
		ip netns del "$tag-$h" 2>/dev/null || true
		rm -rf "/etc/netns/$tag-$h"
	done
	rmdir /etc/netns 2>/dev/null || true
	rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

on() { # on HOST COMMAND...
	host=$1
	shift
	ip netns exec "$tag-$host" "$@"
}

background() { # background HOST COMMAND...; its output goes to $tmp/log
	host=$1
	shift
	ip netns exec "$tag-$host" "$@" >>"$tmp/log" 2>&1 &
	echo $! >>"$tmp/pids"
}

fail() {
	echo "demo-gateway: $1" >&2
	tail -n 20 "$tmp/log" "$tmp"/*.seen "$tmp"/*.err >&2
	exit 1
}

eventually() { # eventually WHAT COMMAND...
	what=$1
	shift
	for _ in $(seq 300); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.1
	done
	fail "$what: waited for 30 seconds"
}

line() { printf '  %-44s %s\n' "$1" "$2"; }

# -- The network ---------------------------------------------------------------
for h in phone laptop gateway server; do
	ip netns add "$tag-$h"
	ip -n "$tag-$h" link set lo up
done
ip link add eth0 netns "$tag-server" type veth peer name wan0 netns "$tag-gateway"
on gateway ip link add lan0 type bridge
n=1
for h in phone laptop; do
	ip link add eth0 netns "$tag-$h" type veth peer name "port$n" netns "$tag-gateway"
	on gateway ip link set "port$n" master lan0 up
	on "$h" sysctl -qw net.ipv6.conf.eth0.accept_ra=1
	ip -n "$tag-$h" link set eth0 address "02:00:00:00:00:0$n" up
	mkdir -p "/etc/netns/$tag-$h"
	echo "nameserver 2001:db8:1::1" >"/etc/netns/$tag-$h/resolv.conf"
	n=$((n + 1))
done
on gateway ip addr add 2001:db8:1::1/64 dev lan0 nodad
on gateway ip link set lan0 up
on gateway ip addr add 203.0.113.1/24 dev wan0
on gateway ip link set wan0 up
on gateway ip route add default via 203.0.113.2
on server ip addr add 203.0.113.2/24 dev eth0
on server ip addr add 198.51.100.7/32 dev lo
on server ip link set eth0 up

cat >"$tmp/server.py" <<'PYTHON'
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("%s: you are %s, port %d\n" % (sys.argv[3], *self.client_address[:2])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
PYTHON
background server python3 "$tmp/server.py" 0.0.0.0 80 server
background phone python3 "$tmp/server.py" :: 443 phone

phone=2001:db8:1:0:0:ff:fe00:1
echo "198.51.100.7 four.example" >"$tmp/hosts"
cat >"$tmp/gateway.toml" <<TOML
[nat64]
prefix = "2001:db8:64::/96"
inside = ["lan0"]
outside = ["wan0"]
[[nat64.forward]]
outside = "203.0.113.1:8443/tcp"
inside = "[$phone]:443"
[dns64]
listen = ["[2001:db8:1::1]:53"]
upstream = ["203.0.113.2:53"]
[[dns64.zone]]
name = "example"
hosts = "$tmp/hosts"
[advertise]
interfaces = ["lan0"]
[control]
socket = "$tmp/gateway.sock"
TOML

echo "phone and laptop (IPv6-only) - gateway (203.0.113.1) - server (IPv4-only, 198.51.100.7)"
echo "tnat64-gateway starts on the gateway:"
background gateway env STATE_DIRECTORY="$tmp" "$bin/tnat64-gateway" -config "$tmp/gateway.toml" -setup
has_address() { on "$1" ip -6 addr show dev eth0 scope global -tentative | grep -q inet6; }
eventually "the phone has no address" has_address phone
eventually "the laptop has no address" has_address laptop
router=$(on phone ip -6 route show default | sed -n 's/.*via \([^ ]*\).*/\1/p' | head -n 1)
line "the phone, by router advertisement" "$phone, default route by $router"

# -- By name, without a CLAT ---------------------------------------------------
echo "the phone, which has no CLAT:"
eventually "the phone does not reach the server" on phone curl -sf -m 5 http://four.example/
line "getent ahostsv6 four.example" "$(on phone getent ahostsv6 four.example | awk '{print $1; exit}')"

# The first packet of the next download on each link.
watch() { # watch HOST INTERFACE FILTER FILE
	ip netns exec "$tag-$1" timeout 60 tcpdump -nqtl -i "$2" -c 5 "$3" >"$tmp/$4.seen" 2>"$tmp/$4.err" &
	echo $! >>"$tmp/pids"
	eventually "tcpdump on $2" grep -q 'listening on' "$tmp/$4.err"
}
addresses() { # addresses FILE
	sed -n 's/^IP6* \([^:]*[^ ]* > [^ ]*\): .*/\1/p' "$tmp/$1.seen" | sed -n '1s/\.\([0-9]*\) > \(.*\)\.\([0-9]*\)$/ > \2/p' | grep .
}
seen() { # seen FILE
	eventually "no packet was seen ($1)" addresses "$1"
	addresses "$1"
}
watch phone eth0 'ip6 and tcp dst port 80' phone
watch server eth0 'ip and tcp dst port 80' server
answer=$(on phone curl -s -m 10 http://four.example/)
line "curl http://four.example/" "$answer"
packet=$(seen phone)
line "addresses on the phone's link" "$packet"
packet=$(seen server)
line "addresses on the server's link" "$packet"

# -- By literal, with a CLAT ---------------------------------------------------
echo "the laptop, with tnat64d:"
if on laptop curl -s -m 2 http://198.51.100.7/ >/dev/null 2>&1; then
	fail "the laptop reaches IPv4 literals without a CLAT"
fi
line "curl http://198.51.100.7/ before it starts" "no route to IPv4"
mkdir -p "$tmp/run" "$tmp/state"
printf '[control]\nsocket = "%s/clat.sock"\n' "$tmp" >"$tmp/clat.toml"
background laptop env RUNTIME_DIRECTORY="$tmp/run" STATE_DIRECTORY="$tmp/state" "$bin/tnat64d" -config "$tmp/clat.toml"
eventually "the CLAT does not come up" on laptop curl -sf -m 5 http://198.51.100.7/
watch laptop clat0 'ip and tcp dst port 80' clat
watch laptop eth0 'ip6 and tcp dst port 80' laptop
line "curl http://198.51.100.7/ with it" "$(on laptop curl -s -m 10 http://198.51.100.7/)"
# The kernel engine pauses a moment after the capture has begun.
download() { addresses clat || { on laptop curl -s -m 10 http://198.51.100.7/ && addresses clat; }; }
eventually "no packet was seen on clat0" download
packet=$(seen clat)
line "addresses on its clat0" "$packet"
packet=$(seen laptop)
line "addresses on its link" "$packet"
echo "both have the same outside address, by ports of their own."

# -- From outside --------------------------------------------------------------
echo "the server, which knows only IPv4:"
answer=$(on server curl -s -m 10 http://203.0.113.1:8443/) || fail "the forwarded port does not answer"
line "curl http://203.0.113.1:8443/" "$answer"

# -- The end -------------------------------------------------------------------
echo "tnat64-gateway and tnat64d stop:"
tac "$tmp/pids" | while read -r pid; do kill "$pid" 2>/dev/null || true; done
gone() { ! on gateway ip link show nat64; }
eventually "the gateway's interface stays" gone
withdrawn() { ! on phone ip -6 route show default | grep -q default; }
eventually "the phone keeps its default route" withdrawn
line "left behind" "nothing: no interface, no default route on the phone"
