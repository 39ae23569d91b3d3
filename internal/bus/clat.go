package bus

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/godbus/dbus/v5"
)

// clatRange is the block that hosts use behind a CLAT (RFC 7335).
var clatRange = netip.MustParsePrefix("192.0.0.0/29")

// NMCLAT tells whether NetworkManager (1.58 and later) runs a CLAT on the
// interface. It has no property for that: it is running if NetworkManager has
// given the interface an address of 192.0.0.0/29. why says what was seen, and
// if it is not running, whether the connection's ipv4.clat lets it start later;
// it is empty if there is nothing to say.
//
// The error is as of LinkDNS: with any of them nothing is known.
func (b *Bus) NMCLAT(ctx context.Context, ifname string) (active bool, why string, err error) {
	err = b.ask(ctx, managerName, func(q question) error {
		path, device, err := managerDevice(q, ifname)
		if err != nil {
			return err
		}
		if config := device.object("Ip4Config"); config != "" {
			p, err := q.properties(config, managerName+".IP4Config")
			if err != nil {
				return err
			}
			var addresses []map[string]dbus.Variant
			p.store("AddressData", &addresses)
			for _, d := range addresses {
				for _, a := range appendAddress(nil, d) {
					if clatRange.Contains(a) {
						active, why = true, fmt.Sprintf("NetworkManager runs a CLAT on %s: it has given it %s", ifname, a)
						return nil
					}
				}
			}
		}
		switch v, _ := managerSetting(q, path, "clat"); v {
		case 1:
			why = fmt.Sprintf("NetworkManager may start a CLAT on %s: its connection has ipv4.clat=auto", ifname)
		case 2:
			why = fmt.Sprintf("NetworkManager may start a CLAT on %s: its connection has ipv4.clat=force", ifname)
		}
		return nil
	})
	return active, why, err
}
