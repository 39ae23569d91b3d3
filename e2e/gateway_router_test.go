package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"tnat64d/internal/control"
)

// defaultByRA is the command that lists a host's default routes by router
// advertisements.
const defaultByRA = "ip -6 route show default proto ra"

// learns waits until a host has a default route by router advertisements on a
// link, or none.
func (n *gatewayNet) learns(host, link string, route bool) {
	n.t.Helper()
	eventually(n.t, soon, func() error {
		if out := n.in(host, defaultByRA+" dev "+link); (out != "") != route {
			return fmt.Errorf("%s: default routes on %s: %q", host, link, out)
		}
		return nil
	})
}

// A stop during a reload withdraws the router, whoever of the two has advertised.
func TestGatewayStopDuringReload(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "[advertise]\ninterfaces = [\"lan0\"]\n")
	n.in("c1", "ip -6 route flush default; sysctl -qw net.ipv6.conf.eth0.accept_ra=1")
	for _, wait := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} {
		n.learns("c1", "eth0", true)
		n.daemon.Process.Signal(syscall.SIGHUP)
		time.Sleep(wait)
		n.end(syscall.SIGTERM)
		n.learns("c1", "eth0", false)
		n.start()
	}
}

// A prefix that was advertised before a restart and is no longer configured is
// withdrawn: hosts deprecate their addresses in it (RFC 9096 section 3.5).
func TestGatewayRenumbering(t *testing.T) {
	t.Parallel()
	advertised := func(prefix string) string {
		return "[advertise]\ninterfaces = [\"lan0\"]\nprefix = \"" + prefix + "\"\n"
	}
	n := newGatewayNet(t, advertised("2001:db8:a::/64"))
	// Linux ignores advertisements of a router that is its default router by hand.
	n.in("c1", "ip -6 route flush default; sysctl -qw net.ipv6.conf.eth0.accept_ra=1")
	has := func(kind, prefix string) {
		t.Helper()
		eventually(t, soon, func() error {
			if out := n.in("c1", "ip -6 -o addr show dev eth0 scope global "+kind); !strings.Contains(out, " "+prefix) {
				return fmt.Errorf("no %s address in %s: %s", kind, prefix, out)
			}
			return nil
		})
	}
	has("-deprecated", "2001:db8:a:")
	n.end(syscall.SIGKILL)
	n.write(advertised("2001:db8:b::/64"))
	n.start()
	has("-deprecated", "2001:db8:b:")
	has("deprecated", "2001:db8:a:")
}

// -setup makes the host forward and keeps its own default route, which it has by
// router advertisements.
func TestGatewaySetup(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "")
	n.end(syscall.SIGTERM)
	n.in("g", "sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv4.ip_forward=0 net.ipv6.conf.wan0.accept_ra=1")
	advertise := func() {
		n.in("s", `python3 -c '
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
s.setsockopt(41, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(41, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0))'`)
	}
	eventually(t, soon, func() error {
		if out, err := n.try("s", "ip -6 addr show dev eth0 scope link -tentative"); err != nil || out == "" {
			return fmt.Errorf("no link-local address: %s, %v", out, err)
		}
		advertise()
		if n.in("g", defaultByRA+" dev wan0") == "" {
			return fmt.Errorf("the advertisement is not accepted")
		}
		return nil
	})
	ups := strings.Count(n.log.String(), "NAT64 is up")
	cmd := exec.Command("ip", "netns", "exec", n.prefix+"g", built(t, "tnat64-gateway"), "-setup", "-config", n.config)
	cmd.Stdout, cmd.Stderr = &n.log, &n.log
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+n.dir, "STATE_DIRECTORY="+n.dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.daemon, n.ended = cmd, make(chan struct{})
	go func() { cmd.Wait(); close(n.ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-n.ended })
	n.isUp(ups + 1)
	wants(t, n.in("c1", curl("198.51.100.7", "")), "you are 203.0.113.1 port")
	if n.in("g", defaultByRA+" dev wan0") == "" {
		t.Error("the default route is lost")
	}
	for _, s := range []string{"sysctl=net.ipv4.ip_forward value=1", "sysctl=net.ipv6.conf.wan0.accept_ra value=2", "sysctl=net.ipv6.conf.all.forwarding value=1"} {
		wants(t, n.log.String(), s)
	}
}

// The gateway follows its host also after the kernel could not tell it what has
// changed.
func TestGatewayOverflow(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "")
	n.daemon.Process.Signal(syscall.SIGSTOP)
	// More events than a socket's buffer holds.
	n.in("g", `
		ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up
		for i in $(seq 0 1999); do echo route add 10.$((i / 250)).$((i % 250)).0/24 dev d0; done | ip -batch -
		for i in $(seq 0 1999); do echo addr add 172.20.$((i / 250)).$((i % 250 + 1))/32 dev d0; done | ip -batch -
		for i in $(seq 1 1000); do echo link set dev d0 mtu $((1280 + i % 200)); done | ip -batch -
		ip link set lan0 mtu 1400`)
	n.daemon.Process.Signal(syscall.SIGCONT)
	mtu := func(want int) {
		t.Helper()
		eventually(t, soon, func() error {
			if got := n.status().MTU6; got != want {
				return fmt.Errorf("the MTU inside is %d, want %d", got, want)
			}
			return nil
		})
	}
	mtu(1400)
	for want := 1300; want <= 1320; want += 10 {
		n.in("g", fmt.Sprintf("ip link set lan0 mtu %d", want))
		mtu(want)
	}
}

// A reload moves the control socket and turns the metrics on and off.
func TestGatewayControlReload(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "")
	plain, err := os.ReadFile(n.config)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(text string) {
		t.Helper()
		ups := strings.Count(n.log.String(), "NAT64 is up")
		if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n.daemon.Process.Signal(syscall.SIGHUP)
		n.isUp(ups + 1)
	}
	const scrape = "curl -sS -m 10 http://127.0.0.1:9647/metrics"
	reload(strings.Replace(string(plain), n.socket(), n.socket()+"2", 1) + "metrics = \"127.0.0.1:9647\"\n")
	eventually(t, soon, func() error {
		if _, err := control.NewGatewayClient(n.socket() + "2").Status(t.Context()); err != nil {
			return err
		}
		out, err := n.try("g", scrape)
		if err == nil && !strings.Contains(out, "tnat64_gateway_maps") {
			err = fmt.Errorf("metrics: %s", out)
		}
		return err
	})
	if _, err := control.NewGatewayClient(n.socket()).Status(t.Context()); err == nil {
		t.Error("the old socket still answers")
	}
	reload(string(plain))
	eventually(t, soon, func() error {
		if out, err := n.try("g", scrape); err == nil {
			return fmt.Errorf("metrics are still served: %.100s", out)
		}
		return nil
	})
	n.status()
}
