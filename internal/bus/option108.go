package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"
)

// Option108 is what the machine's DHCPv4 client tells of the IPv6-Only
// Preferred option (RFC 8925).
type Option108 struct {
	Seen bool          // the network has sent it
	Wait time.Duration // V6ONLY_WAIT: for how long IPv4 is to stay off
	// Likely says that the client asks for the option and holds no lease, which
	// is how it looks when the network has sent it: neither NetworkManager nor
	// systemd-networkd show the option itself then, they only log it.
	Likely bool
	Why    string // who says so, or why nobody can tell
}

// Option108 asks NetworkManager, or else systemd-networkd, for the IPv6-Only
// Preferred option on a link. The error is as of LinkDNS: neither of them
// manages the link.
func (b *Bus) Option108(ctx context.Context, ifindex int, ifname string) (o Option108, err error) {
	nm := b.ask(ctx, managerName, func(q question) (err error) {
		o, err = managerOption108(q, ifname)
		return err
	})
	if nm == nil || errors.Is(nm, ErrNoBus) {
		return o, nm
	}
	networkd := b.ask(ctx, networkdName, func(q question) (err error) {
		o, err = networkdOption108(q, ifindex)
		return err
	})
	if networkd == nil {
		return o, nil
	}
	return Option108{}, errors.Join(nm, networkd)
}

func managerOption108(q question, ifname string) (Option108, error) {
	path, device, err := managerDevice(q, ifname)
	if err != nil {
		return Option108{}, err
	}
	var managed bool
	if device.store("Managed", &managed) && !managed {
		return Option108{}, fmt.Errorf("%w", ErrNotManaged)
	}
	if config := device.object("Dhcp4Config"); config != "" {
		var options map[string]dbus.Variant
		if err := q.property(config, managerName+".DHCP4Config", "Options", &options); err != nil {
			return Option108{}, err
		}
		if v, ok := options["ipv6_only_preferred"]; ok {
			seconds, err := strconv.ParseUint(fmt.Sprint(v.Value()), 10, 32)
			if err != nil {
				return Option108{}, fmt.Errorf("cannot parse option ipv6_only_preferred=%s", v)
			}
			return Option108{
				Seen: true, Wait: time.Duration(seconds) * time.Second,
				Why: "NetworkManager's lease has the option",
			}, nil
		}
		if len(options) > 0 {
			return Option108{Why: "NetworkManager holds an IPv4 lease, without the option"}, nil
		}
	}
	switch v, _ := managerSetting(q, path, "dhcp-ipv6-only-preferred"); v {
	case 1, 2:
		return Option108{
			Likely: true,
			Why:    "NetworkManager requests the option (ipv4.dhcp-ipv6-only-preferred) and holds no IPv4 lease; only its log shows whether the network sent the option",
		}, nil
	}
	// Its default is to ask where its CLAT may run (1.58 and later).
	if v, _ := managerSetting(q, path, "clat"); v == 1 || v == 2 {
		if _, set := managerSetting(q, path, "dhcp-ipv6-only-preferred"); !set {
			return Option108{
				Likely: true,
				Why:    "NetworkManager requests the option because its own CLAT is enabled (ipv4.clat), and holds no IPv4 lease; only its log shows whether the network sent the option. If it did, NetworkManager leaves DHCPv4 off for at least 30 minutes",
			}, nil
		}
	}
	return Option108{Why: "NetworkManager holds no IPv4 lease, and its connection does not request the option (ipv4.dhcp-ipv6-only-preferred)"}, nil
}

// networkdOption108 can tell little: networkd's description of a link has no
// word about the option, and when the network sends it there is no lease.
func networkdOption108(q question, ifindex int) (Option108, error) {
	var text string
	if err := q.call(networkdPath, networkdName+".Manager.DescribeLink", []any{int32(ifindex)}, &text); err != nil {
		return Option108{}, err
	}
	var link struct {
		AdministrativeState string
		DHCPv4Client        struct{ Lease *struct{} } // systemd 256 and later
	}
	if err := json.Unmarshal([]byte(text), &link); err != nil {
		return Option108{}, fmt.Errorf("cannot decode the description of the link: %w", err)
	}
	switch {
	case link.AdministrativeState == "unmanaged" || link.AdministrativeState == "":
		return Option108{}, fmt.Errorf("%w", ErrNotManaged)
	case link.DHCPv4Client.Lease != nil:
		return Option108{Why: "systemd-networkd holds an IPv4 lease; it does not show the option"}, nil
	}
	return Option108{Why: "systemd-networkd shows no IPv4 lease; only its log shows whether the network sent the option (requested if IPv6OnlyMode= is set)"}, nil
}
