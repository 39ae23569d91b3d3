package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dhcpv6 is the address on a link that DHCPv6 gives to the laptop.
func dhcpv6(link netip.Prefix) netip.Addr {
	b := link.Addr().As16()
	b[14], b[15] = 0x0d, 0xc6
	return netip.AddrFrom16(b)
}

// leases is how a network gives the laptop what its DHCPv6 server has (RFC 8415).
type leases struct{ network *Network }

// give gives the laptop what a DHCPv6 client would have got: a /128, no
// route (RFC 8415 section 18.2.10.1).
func (l leases) give() error {
	n := l.network
	link, err := n.lab.Laptop.Netlink.LinkByName(n.Attached())
	if err == nil {
		err = n.lab.Laptop.Netlink.AddrReplace(link, &netlink.Addr{
			IPNet: ipNet(netip.PrefixFrom(dhcpv6(n.Link), 128)),
			Flags: unix.IFA_F_NOPREFIXROUTE, ValidLft: 7200, PreferedLft: 3600,
		})
	}
	if err != nil {
		return fmt.Errorf("DHCPv6: %w", err)
	}
	return nil
}

// leaseTime is that of the DHCPv6 server: the shortest that it can.
const leaseTime = "2m"

// serve starts the network's DHCPv6 server on the router, if the network's kind
// has one. It has one address to lease, and runs as long as the lab.
func (l leases) serve() error {
	switch l.network.options.Kind {
	case DHCPv6Only:
		return l.runDnsmasq()
	case Delegated:
		return l.runKea()
	}
	return nil
}

func (l leases) runDnsmasq() error {
	n := l.network
	return n.Router.background(n.lab.life, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-hosts", "--no-resolv",
		"--user=root", "--group=root", "--pid-file=", "--log-facility=/dev/null",
		"--interface="+lan, "--bind-dynamic", "--dhcp-leasefile="+filepath.Join(n.lab.Dir, "leases"),
		fmt.Sprintf("--dhcp-range=%s,%[1]s,64,%s", dhcpv6(n.Link), leaseTime))
}

// ask starts a DHCPv6 client on the laptop, which also takes over router
// advertisements from the kernel. It runs as long as the lab; its files go with it,
// and its helper processes, which have a PID namespace of their own. Its first
// process is the shell, because the client changes its user, and then outlives its
// parent.
func (l leases) ask() error {
	n := l.network
	config := filepath.Join(n.lab.Dir, "dhcpcd.conf")
	text := "nodev\nduid\nipv6only\nscript /bin/true\ninterface " + n.Attached() + "\nia_na 1\n"
	interfaces := []string{n.Attached()}
	if n.options.Kind == Delegated {
		text += fmt.Sprintf("ia_pd 2 %s/1/64\n", DelegatedLink)
		interfaces = append(interfaces, DelegatedLink)
	}
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return fmt.Errorf("DHCPv6: %w", err)
	}
	return n.lab.Laptop.background(n.lab.life, "unshare", append([]string{"--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-ec", `
		mount -t tmpfs tmpfs /var/lib/dhcpcd
		cp "$1" /var/lib/dhcpcd/config
		shift
		mount -t tmpfs tmpfs /run
		dhcpcd --config /var/lib/dhcpcd/config --nobackground --quiet "$@"
		exit`, "sh", config}, interfaces...)...)
}

// background starts a program on the host that runs until life ends.
func (h *Host) background(life context.Context, name string, args ...string) error {
	cmd := h.Command(life, name, args...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	go cmd.Wait()
	return nil
}
