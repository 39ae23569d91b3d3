package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// GuestBridge is the laptop's interface towards its guest.
const GuestBridge = "vnet0"

// The addresses of the laptop's guest, as Docker gives them.
var (
	GuestLink   = netip.MustParsePrefix("172.17.0.0/16")
	GuestLaptop = netip.MustParseAddr("172.17.0.1")
	Guest       = netip.MustParseAddr("172.17.0.2")
)

// guestRules is how container engines, virtual machine managers and hotspots
// let their guests out: the host masquerades, whichever way it is.
const guestRules = `table ip lab-guest {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 172.17.0.0/16 oifname != "` + GuestBridge + `" masquerade
	}
}
`

// AddGuest puts an IPv4-only guest behind the laptop: a namespace with a link
// to it, which the laptop forwards and masquerades. It needs the program nft.
func (l *Lab) AddGuest(ctx context.Context) (*Host, error) {
	guest, err := newHost(l.ID, "guest")
	if err != nil {
		return nil, fmt.Errorf("lab: guest: %w", err)
	}
	l.mu.Lock()
	l.guests = append(l.guests, guest)
	l.mu.Unlock()
	err = steps(
		guest.infrastructure,
		func() error { return guest.Sysctl("net.ipv6.conf.all.disable_ipv6", "1") },
		func() error { return guest.Sysctl("net.ipv6.conf.default.disable_ipv6", "1") },
		func() error {
			return connect(end{l.Laptop, GuestBridge, hardwareAddr(0x20)}, end{guest, eth, hardwareAddr(0x21)}, 1500)
		},
		func() error { return l.Laptop.up(GuestBridge) },
		func() error { return guest.up(eth) },
		func() error { return l.Laptop.address(GuestBridge, GuestLaptop, GuestLink.Bits()) },
		func() error { return guest.address(eth, Guest, GuestLink.Bits()) },
		func() error { return guest.route(anyIPv4, eth, GuestLaptop) },
		func() error { return l.Laptop.Sysctl("net.ipv4.ip_forward", "1") },
		func() error {
			nft := l.Laptop.Command(ctx, "nft", "-f", "-")
			nft.Stdin = strings.NewReader(guestRules)
			if out, err := nft.CombinedOutput(); err != nil {
				return fmt.Errorf("masquerade by nft: %w: %s", err, strings.TrimSpace(string(out)))
			}
			return nil
		},
	)
	if err != nil {
		return nil, fmt.Errorf("lab: guest: %w", err)
	}
	return guest, nil
}
