package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// scene is one thing that is shown: scripts on the machine, printed with what
// they say. Each must end with status 0.
type scene struct {
	title   string
	before  func(ctx context.Context, n *network) error // in the network
	scripts []string
	reboot  bool // afterwards
}

// Shell functions of all scripts.
const prelude = `
# waits COMMAND...: until it succeeds, for minutes: emulation beside other work
# may be a hundred times as slow as the machine itself. A script has 10 minutes.
waits() {
	local until=$(($(date +%s) + 480))
	while [ $(date +%s) -lt $until ]; do "$@" >/dev/null 2>&1 && return 0; sleep 1; done
	echo "after 480 seconds still not: $*"; return 1
}
# not COMMAND...: it must fail. (set -e does not look at "!".)
not() { if "$@"; then echo "this should have failed: $*"; return 1; fi; }
fetch() { curl -sS --max-time 90 http://198.51.100.7/; }
route4() { ip -4 route show default; }
via() { route4 | head -1 | grep -q "dev $1"; } # the best default route
unmanaged() { nmcli -g GENERAL.STATE device show clat0 | grep "10 (unmanaged)"; }
# journal WORDS: the lines since the mark.
mark() { date +%s >/run/mark; sleep 1; }
journal() { journalctl -b -o short-monotonic --no-hostname --since "@$(cat /run/mark)" "$@"; }
gone() { not ip link show clat0; }
# A fault of the machine shows the log.
trap 's=$?; [ $s = 0 ] || { echo "--- status $s; journal:"; journalctl -b -n 40 --no-pager -o short-monotonic; echo "--- tnat64d:"; journalctl -b -u tnat64d -n 4000 --no-pager -o short-monotonic --no-hostname; ip addr; ip route; ip -6 route; }' EXIT
set -e
`

const install = `mark; tar -xf /dev/vdb -C /root; dpkg -i /root/tnat64d.deb`

const purge = `mark; apt-get purge -y -qq tnat64d | grep -v '^(Reading'; journal -t tnat64d --no-pager`

const nothingLeft = `find / /run -xdev -iname '*tnat64*' ! -path '/root/*' 2>/dev/null >/root/left || true; echo "$(wc -l </root/left) files"; not grep . /root/left
		not getent passwd tnat64; not getent group tnat64
		not pidof tnat64d; gone 2>&1; ip -br addr; ip -4 route; ip -6 addr show dev eth0 | grep -c inet6; tc filter show dev eth0 ingress; not sh -c 'tc qdisc show dev eth0 | grep clsact'
		sysctl -a 2>/dev/null | grep -E '^net.*(forward|accept_ra |proxy_ndp)' | sort | diff /root/sysctls -; not fetch`

// stories by name.
var stories = map[string][]scene{
	"whole":   slices.Concat(laptop, gateway),
	"laptop":  laptop,
	"gateway": gateway,
	"short":   short,
	"nm-clat": nmCLAT,
}

// laptop is what becomes of the package tnat64d beside NetworkManager.
var laptop = []scene{
	{title: "NetworkManager on an IPv6-only network, before", scripts: []string{
		`. /etc/os-release; echo "$PRETTY_NAME, $(uname -r), $(systemctl --version | head -1), NetworkManager $(NetworkManager --version)"`,
		`waits sh -c 'ip -6 route show default | grep -q .'; ip -br addr show eth0; nmcli -t device`,
		`not fetch`,
		`find / -xdev -iname '*tnat64*' 2>/dev/null | sort; sysctl -a 2>/dev/null | grep -E '^net.*(forward|accept_ra |proxy_ndp)' | sort >/root/sysctls`,
	}},
	{title: "install the package", scripts: []string{
		install,
		`waits systemctl is-active tnat64d; systemctl is-enabled tnat64d; systemctl is-active tnat64d`,
		`waits via clat0; systemctl status --no-pager -n 0 tnat64d | cat`,
		`journal -t tnat64d --no-pager`,
		`fetch`,
		`ping -c 2 -W 5 198.51.100.7 | tail -3`,
		`route4; ip -br addr show clat0`,
	}},
	{title: "who it is and what it may", scripts: []string{
		`ps -o user:8,group:8,rss,args -C tnat64d; grep -E 'Cap(Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/$(pidof tnat64d)/status`,
		`systemd-analyze security tnat64d | tail -1`,
		`ls -la /run/tnat64 /var/lib/tnat64`,
		`waits sh -c 'tnat64ctl status -json | grep -A2 networkmanager | grep "available\": true"'; tnat64ctl status; setpriv --reuid=nobody --regid=nogroup --groups=tnat64 tnat64ctl status | head -1`,
	}},
	{title: "NetworkManager leaves clat0 alone", scripts: []string{
		`nmcli -t device; unmanaged`,
		`udevadm info /sys/class/net/clat0 | grep -E 'NM_UNMANAGED|ID_MM'`,
	}},
	{title: "the dispatcher hook hands over the link's DNS servers", scripts: []string{
		// What NetworkManager's hook says to the daemon, beside saying it.
		`mv /usr/bin/tnat64ctl /usr/bin/tnat64ctl.real; printf '#!/bin/sh\necho "$@" >>/run/said\nexec tnat64ctl.real "$@"\n' >/usr/bin/tnat64ctl; chmod +x /usr/bin/tnat64ctl
		nmcli connection modify "Wired connection 1" ipv6.dns 2001:db8:1::53; nmcli connection up "Wired connection 1" >/dev/null; waits grep -q 2001:db8:1::53 /run/said
		cat /run/said; mv /usr/bin/tnat64ctl.real /usr/bin/tnat64ctl; waits via clat0; fetch`,
		`before=$(date +%s%N); /usr/lib/NetworkManager/dispatcher.d/50-tnat64 eth0 up; echo "$((($(date +%s%N) - before) / 1000000)) ms"
		kill -STOP $(pidof tnat64d); before=$(date +%s%N); /usr/lib/NetworkManager/dispatcher.d/50-tnat64 eth0 up; echo "$((($(date +%s%N) - before) / 1000000)) ms beside a daemon that hangs"; kill -CONT $(pidof tnat64d)`,
	}},
	{title: "everything in user space, by a reload", scripts: []string{
		`mark; printf '[clat]\nengine = "user"\n' >/etc/tnat64/tnat64d.toml; systemctl reload tnat64d; waits via clat0; sleep 2; fetch; journal -t tnat64d --no-pager`,
	}},
	{title: "a broken configuration does not take it down: reload, upgrade", scripts: []string{
		`pidof tnat64d >/run/pid; printf '[clat]\nengin = "user"\nmtu = 7\n' >/etc/tnat64/tnat64d.toml; mark; not systemctl reload tnat64d; journal -t tnat64d --no-pager`,
		`mark; dpkg -i /root/tnat64d.deb`,
		`journal -t tnat64d --no-pager`,
		`[ "$(pidof tnat64d)" = "$(cat /run/pid)" ]; systemctl is-active tnat64d; fetch`,
	}},
	{title: "a restart with it says why, and does not try again", scripts: []string{
		`mark; not systemctl restart tnat64d; sleep 5; journal --no-pager -u tnat64d; systemctl show -p ActiveState,Result,NRestarts,ExecMainStatus tnat64d`,
		`printf '[clat]\n' >/etc/tnat64/tnat64d.toml; systemctl restart tnat64d; waits via clat0; fetch`,
	}},
	{title: "an upgrade restarts it, and a download survives", scripts: []string{
		`pidof tnat64d >/run/pid
		(curl -sS --limit-rate 200k --max-time 500 -o /root/download http://198.51.100.7/bytes/4000000; echo "curl: status $?, $(stat -c %s /root/download) bytes" >/root/result) &
		sleep 3; dpkg -i /root/tnat64d.deb; waits via clat0
		[ "$(pidof tnat64d)" != "$(cat /run/pid)" ]; wait; cat /root/result; grep -q "status 0, 4000000" /root/result`,
	}},
	{title: "SIGKILL: the next one cleans up and goes on", scripts: []string{
		`mark; kill -KILL $(pidof tnat64d); waits sh -c 'systemctl is-active tnat64d && pidof tnat64d'; waits via clat0; fetch; journal --no-pager -u tnat64d`,
	}},
	{title: "a daemon that hangs is noticed by the watchdog, one that is idle is not", scripts: []string{
		`mkdir -p /run/systemd/system/tnat64d.service.d; printf '[Service]\nWatchdogSec=60s\n' >/run/systemd/system/tnat64d.service.d/watchdog.conf
		systemctl daemon-reload; systemctl restart tnat64d; waits via clat0; pidof tnat64d >/run/pid; sleep 90; [ "$(pidof tnat64d)" = "$(cat /run/pid)" ]; systemctl show -p NRestarts tnat64d`,
		`mark; kill -STOP $(pidof tnat64d); waits sh -c '[ "$(systemctl show -P NRestarts tnat64d)" = 1 ]'; waits via clat0; fetch; journal --no-pager -u tnat64d | grep -v goroutine | grep -E 'systemd|tnat64d.*(removed|CLAT)'
		rm -r /run/systemd/system/tnat64d.service.d; systemctl daemon-reload; systemctl restart tnat64d; waits via clat0`,
	}},
	{title: "no /dev/net/tun", scripts: []string{
		`mark; mv /dev/net/tun /dev/net/away; not systemctl restart tnat64d; journal --no-pager -t tnat64d; mv /dev/net/away /dev/net/tun`,
		`systemctl reset-failed tnat64d; systemctl restart tnat64d; waits via clat0; fetch`,
	}},
	{title: "a masked dispatcher", scripts: []string{
		`mark; systemctl mask --now NetworkManager-dispatcher.service; nmcli device reapply eth0; sleep 5; journal --no-pager | grep 'is masked' | tail -1; fetch; systemctl unmask NetworkManager-dispatcher.service`,
	}},
	{title: "no D-Bus", scripts: []string{
		`mark; systemctl stop dbus.socket dbus.service; sleep 1; systemctl restart tnat64d || true; sleep 3; pidof tnat64d; journal --no-pager -t tnat64d; tnat64ctl status | tail -5; fetch`,
		`systemctl start dbus.socket dbus.service; systemctl restart systemd-logind NetworkManager; waits nmcli -t device; waits via clat0; fetch`,
	}},
	{title: "native IPv4 comes (DHCPv4)", before: func(ctx context.Context, n *network) error { return n.startDHCP(ctx) }, scripts: []string{
		`mark; waits via eth0; sleep 3; route4; waits gone; journal -t tnat64d --no-pager; fetch`,
		`systemctl is-active tnat64d; tnat64ctl status`,
	}},
	{title: "and goes", before: func(_ context.Context, n *network) error { n.refuseDHCP(); return nil }, scripts: []string{
		`mark; waits via clat0; route4; journal -t tnat64d --no-pager; fetch`,
	}, reboot: true},
	{title: "after a reboot, with nobody's help", scripts: []string{
		`waits via clat0; fetch; systemctl is-active tnat64d; systemctl show -p NRestarts,Result tnat64d; journalctl -b -u tnat64d --no-pager -o short-monotonic --no-hostname; [ "$(systemctl show -P NRestarts tnat64d)" = 0 ]`,
		`systemd-analyze | head -1; systemd-analyze critical-chain tnat64d.service | tail -n +4`,
		`unmanaged; systemctl is-system-running || systemctl --failed --no-legend`,
	}},
	{title: "purge leaves nothing", scripts: []string{
		purge, nothingLeft,
	}},
}

// gateway is what becomes of the package tnat64-gateway.
var gateway = []scene{
	{title: "the gateway: the package waits for a configuration", scripts: []string{
		`ip netns add phone; ip link add lan0 type veth peer name eth0 netns phone; ip link set lan0 up; ip addr add 2001:db8:2::1/64 dev lan0 nodad; ip -n phone link set lo up; ip -n phone link set eth0 up
		ip netns add web; ip link add wan0 type veth peer name eth0 netns web; ip link set wan0 up; ip addr add 203.0.113.1/24 dev wan0; ip -n web link set eth0 up; ip -n web addr add 203.0.113.80/24 dev eth0
		(ip netns exec web systemd-socket-activate -l 203.0.113.80:80 --inetd -a sh -c 'for i in 1 2 3 4 5; do read -r line; done; printf "HTTP/1.0 200 OK\r\n\r\nhello from the web\n"' >/dev/null 2>&1 &)
		mark; tar -xf /dev/vdb -C /root; dpkg -i /root/tnat64-gateway.deb; systemctl show -p ActiveState,ConditionResult,NRestarts tnat64-gateway`,
	}},
	{title: "and runs as its own user, beside a host that has only IPv6", scripts: []string{
		`printf '[nat64]\ninside = ["lan0"]\noutside = ["wan0"]\nprefix = "2001:db8:64::/96"\n[dns64]\nlisten = ["[2001:db8:2::1]:53"]\n[advertise]\ninterfaces = ["lan0"]\n' >/etc/tnat64/gateway.toml
		systemctl start tnat64-gateway; systemctl status --no-pager -n 0 tnat64-gateway | cat; journal -t tnat64-gateway --no-pager`,
		`ps -o user:16,group:16,rss,args -C tnat64-gateway; grep -E 'Cap(Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/$(pidof tnat64-gateway)/status; systemd-analyze security tnat64-gateway | tail -1`,
		`waits sh -c 'ip -n phone -6 route show default | grep -q .'; waits ip netns exec phone curl -sS --max-time 10 "http://[2001:db8:64::cb00:7150]/"; ip netns exec phone curl -sS --max-time 90 "http://[2001:db8:64::cb00:7150]/"`,
		// tnat64ctl is in the package tnat64d, which is not installed here.
		`dpkg-deb --fsys-tarfile /root/tnat64d.deb | tar -xO ./usr/bin/tnat64ctl >/root/tnat64ctl; chmod +x /root/tnat64ctl; /root/tnat64ctl -gateway status`,
	}},
	{title: "SIGKILL and reload of the gateway", scripts: []string{
		`mark; kill -KILL $(pidof tnat64-gateway); waits sh -c 'systemctl is-active tnat64-gateway && pidof tnat64-gateway'; waits ip netns exec phone curl -sS --max-time 10 "http://[2001:db8:64::cb00:7150]/"
		printf '[nat64]\nprefixx = 1\n' >/root/broken; cp /etc/tnat64/gateway.toml /root/good; cp /root/broken /etc/tnat64/gateway.toml; not systemctl reload tnat64-gateway; cp /root/good /etc/tnat64/gateway.toml; systemctl reload tnat64-gateway; sleep 2; ip netns exec phone curl -sS --max-time 90 "http://[2001:db8:64::cb00:7150]/"; journal -u tnat64-gateway --no-pager`,
	}},
	{title: "purge of the gateway leaves the configuration only", scripts: []string{
		`# The configuration is the administrator's, who wrote it.
		apt-get purge -y -qq tnat64-gateway | grep -v '^(Reading'; not pidof tnat64-gateway; not ip link show nat64; [ "$(ls /etc/tnat64)" = gateway.toml ]
		find / /run -xdev -iname '*tnat64*' ! -path '/root/*' 2>/dev/null >/root/left || true; not grep -vx /etc/tnat64 /root/left; not getent passwd tnat64-gateway; not getent group tnat64-gateway
		waits sh -c '! ip -n phone -6 route show default | grep -q .'; ip -n phone -6 addr show dev eth0; ip rule; ip -6 rule`,
	}},
}

// tell plays a story and prints it.
func tell(ctx context.Context, m *machine, n *network, story []scene, start time.Time) error {
	elapsed := func() time.Duration { return time.Since(start).Round(time.Second) }
	fmt.Printf("booted after %v\n", elapsed())
	for _, s := range story {
		fmt.Printf("\n== %s (%v)\n", s.title, elapsed())
		if s.before != nil {
			if err := s.before(ctx, n); err != nil {
				return err
			}
		}
		for _, script := range s.scripts {
			fmt.Printf("# %s\n", strings.Join(strings.Fields(script), " "))
			out, status, err := m.sh(ctx, prelude+script)
			if err != nil {
				return err
			}
			for line := range strings.Lines(out) {
				fmt.Print("  ", line)
			}
			if out != "" {
				fmt.Println()
			}
			if status != 0 {
				return fmt.Errorf("%s: status %d of %q", s.title, status, script)
			}
		}
		if s.reboot {
			if _, _, err := m.sh(ctx, "systemctl --no-block reboot"); err != nil {
				return err
			}
			if err := m.waitReady(ctx); err != nil {
				return err
			}
		}
	}
	fmt.Printf("\nall of it took %v\n", elapsed())
	return nil
}
