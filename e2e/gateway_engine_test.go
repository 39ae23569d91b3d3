package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// translated returns how many packets of a protocol each engine has translated.
func (n *gatewayNet) translated(protocol string) (kernel, user uint64) {
	n.t.Helper()
	for _, c := range n.status().Traffic {
		switch {
		case c.Protocol != protocol:
		case c.Engine == "kernel":
			kernel += c.Packets
		default:
			user += c.Packets
		}
	}
	return kernel, user
}

// TestGatewayKernelEngine has the kernel engine translate for a gateway, with the
// kernel's NAT44 behind it.
func TestGatewayKernelEngine(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"tcpdump", "nft"} {
		needProgram(t, p)
	}
	n := newGatewayNet(t, "engine = \"kernel\"\nmap-idle = \"4s\"\ndeny = [\"203.0.113.2/32\"]\n")
	const server, client = "198.51.100.7", "2001:db8:1::11"
	wants(t, n.in("c1", curl(server, "")), "you are 203.0.113.1 port")

	t.Run("TCP does not reach user space", func(t *testing.T) {
		n.host("head -c 20000000 /dev/zero > " + n.dir + "/upload")
		kernelBefore, userBefore := n.translated("tcp")
		n.in("c1", curl(server, "-H 'Expect:' --data-binary @"+n.dir+"/upload"))
		n.in("c1", "for i in $(seq 20); do "+strings.Replace(curl(server, "-o /dev/null"), "]'", "]/large'", 1)+"; done")
		kernel, user := n.translated("tcp")
		kernel, user = kernel-kernelBefore, user-userBefore
		if t.Logf("%d packets by the kernel engine, %d by the user engine", kernel, user); kernel < 500 || user*20 > kernel {
			t.Errorf("%d packets by the kernel engine, %d by the user engine: want 95 %% or more in the kernel", kernel, user)
		}
	})
	t.Run("firewall and connection tracking see every packet", func(t *testing.T) {
		n.in("g", `nft -f - <<'END'
table inet watch {
	counter six {}
	counter four {}
	counter back {}
	counter marked {}
	chain out { type filter hook forward priority 10
		iifname "lan0" oifname "nat64" meta mark set 7 counter name six
		iifname "nat64" oifname "wan0" ct state new,established counter name four
		iifname "nat64" meta mark 7 counter name marked
		iifname "wan0" oifname "nat64" ct state established counter name back
	}
}
END`)
		kernelBefore, _ := n.translated("icmp")
		wants(t, n.in("c1", ping6(5, to(server))), " 0% packet loss")
		if kernel, _ := n.translated("icmp"); kernel-kernelBefore < 8 {
			t.Errorf("the kernel engine has translated %d packets", kernel-kernelBefore)
		}
		for counter, want := range map[string]string{"six": "packets 5 ", "four": "packets 5 ", "back": "packets 5 ", "marked": "packets 0 "} {
			wants(t, n.in("g", "nft list counter inet watch "+counter), want)
		}
		n.in("g", "nft delete table inet watch")
	})
	t.Run("what user space refuses", func(t *testing.T) {
		// The client has a map, so that the kernel engine looks at its packets.
		for _, a := range []string{"203.0.113.1", "203.0.113.2", "127.0.0.1", "169.254.169.254", "100.64.0.1", "100.64.200.200"} {
			n.in("c1", "ping -6 -n -c 1 -W 30 "+to(server))
			kernelBefore, _ := n.translated("icmp")
			n.try("c1", "ping -6 -n -c 2 -i 0.2 -W 1 "+to(a))
			if kernel, _ := n.translated("icmp"); kernel != kernelBefore {
				t.Errorf("the kernel engine has translated packets to %s", a)
			}
		}
	})
	t.Run("a map ages by the packets of the kernel engine", func(t *testing.T) {
		was := n.mapOf(client)
		kernelBefore, userBefore := n.translated("icmp")
		n.in("c1", "ping -6 -n -c 24 -i 0.5 -W 10 "+to(server)) // three times as long
		if kernel, user := n.translated("icmp"); user-userBefore > 2 || kernel-kernelBefore < 40 {
			t.Errorf("%d packets by the kernel engine, %d by the user engine", kernel-kernelBefore, user-userBefore)
		}
		if is := n.mapOf(client); is != was {
			t.Errorf("a client that sends had %s and has %s", was, is)
		}
		eventually(t, time.Minute, func() error {
			if s := n.status(); s.Maps.Dynamic > 0 {
				return fmt.Errorf("a silent client keeps its map: %+v", s.Maps)
			}
			return nil
		})
		// Nobody has the address now.
		kernelBefore, _ = n.translated("icmp")
		n.try("s", "ping -n -c 2 -i 0.2 -W 1 "+was)
		if kernel, _ := n.translated("icmp"); kernel != kernelBefore {
			t.Error("the kernel engine translates to a client without a map")
		}
		wants(t, n.in("c1", ping6(3, to(server))), " 0% packet loss")
		if kernel, _ := n.translated("icmp"); kernel == kernelBefore {
			t.Error("the kernel engine does not translate for a client that has come back")
		}
	})
	t.Run("tcpdump sees both directions", func(t *testing.T) {
		capture := n.command(t.Context(), "g", "exec tcpdump -nlpi nat64 icmp or icmp6")
		var seen lockedBuffer
		capture.Stdout = &seen
		if err := capture.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { capture.Process.Kill(); capture.Wait() })
		eventually(t, soon, func() error {
			if s := n.status(); s.Engine != "user" || s.EngineWhy != "while a program captures packets on nat64" {
				return fmt.Errorf("engine %s: %s", s.Engine, s.EngineWhy)
			}
			return nil
		})
		n.in("c1", "ping -6 -n -c 1 -W 30 "+to(server))
		eventually(t, soon, func() error {
			if s := seen.String(); strings.Count(s, "echo request") < 2 || strings.Count(s, "echo reply") < 2 {
				return fmt.Errorf("tcpdump shows:\n%s", s)
			}
			return nil
		})
		capture.Process.Kill()
		capture.Wait()
		eventually(t, soon, func() error {
			if s := n.status(); s.Engine != "kernel" {
				return fmt.Errorf("engine %s: %s", s.Engine, s.EngineWhy)
			}
			return nil
		})
	})
}
