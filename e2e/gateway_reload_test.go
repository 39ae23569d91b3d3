package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// A reload gives the TUN another name, mentions what is doubtful in the file, and at
// once takes the service from hosts that are no clients any more: they do not keep
// what they had.
func TestGatewayReload(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "clients = [\"2001:db8:1::/64\"]\n")
	get := curl("198.51.100.7", "")
	wants(t, n.in("c1", get), "you are 203.0.113.1 port")
	wants(t, n.in("c2", get), "you are 203.0.113.1 port")
	n.mapOf("2001:db8:1::11")

	n.reload("tun = \"other64\"\nclients = [\"2001:db8:1::/64\"]\n")
	wants(t, n.in("c1", get), "you are 203.0.113.1 port")
	if links := n.in("g", "ip -o link"); !strings.Contains(links, "other64") || strings.Contains(links, " nat64") {
		t.Errorf("the interfaces: %s", links)
	}

	n.reload("clients = [\"2001:db8:1::12/128\"]\n[dns64]\nlisten = [\"[2001:db8:9::1]:53\"]\nupstream = [\"203.0.113.2:53\"]\n")
	wants(t, n.log.String(), "is not an address of this host")
	wants(t, n.in("c2", get), "you are 203.0.113.1 port")
	if out, err := n.try("c1", curl("198.51.100.7", "-m 5")); err == nil {
		t.Errorf("a host that is no client any more: %s", out)
	}
	if n.dropped("not-a-client") == 0 {
		t.Errorf("nothing is counted as not-a-client: %+v", n.status().Drops)
	}
	for _, f := range n.connections() {
		if n.maps()["2001:db8:1::11"] == f.Forward.SrcIP.String() {
			t.Errorf("its connection is still tracked: %v", f)
		}
	}
}

// A configuration that fits the host by all that can be known before, and with which
// NAT64 does not come up all the same, ends in the old one: here its TUN has the name
// of one that looks like the gateway's own.
func TestGatewayReloadGoesBack(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "")
	get := curl("198.51.100.7", "")
	wants(t, n.in("c1", get), "you are 203.0.113.1 port")
	n.background(t, "g", `exec python3 -c '
import fcntl, os, struct, subprocess, time
f = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(f, 0x400454ca, struct.pack("16sH22x", b"other64", 0x1001)) # TUNSETIFF, IFF_TUN | IFF_NO_PI
fcntl.ioctl(f, 0x400454cc, 0) # TUNSETOWNER
subprocess.run(["ip", "link", "set", "other64", "alias", "tnat64-gateway"], check=True)
time.sleep(600)
'`)
	eventually(t, soon, func() error {
		_, err := n.try("g", "ip link show other64 | grep -q tnat64-gateway")
		return err
	})
	ups := strings.Count(n.log.String(), "NAT64 is up")
	n.write("tun = \"other64\"\n")
	n.daemon.Process.Signal(syscall.SIGHUP)
	n.isUp(ups + 1)
	wants(t, n.log.String(), "the new configuration does not work; going back to the old one")
	wants(t, n.in("c1", get), "you are 203.0.113.1 port")
	n.reload("clients = [\"2001:db8:1::/64\"]\n")
	wants(t, n.in("c1", get), "you are 203.0.113.1 port")
}
