package lab

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// outer are the addresses of a tunnel's ends on the link below it, which has no
// others.
var outer = [2]netip.Addr{netip.MustParseAddr("fe80::a"), netip.MustParseAddr("fe80::b")}

const (
	wireGuardPort = "51820"
	tunnelMTU     = 1400 // within an Ethernet link's
)

// tunnelKind makes the two ends of a tunnel, of one kind. They stay down.
type tunnelKind func(l *Lab, ends [2]end) error

// tunnel makes a tunnel between two ends over a link of its own.
func (l *Lab) tunnel(laptop, router end, makeEnds tunnelKind) error {
	ends := [2]end{laptop, router}
	if err := connect(laptop.port(0), router.port(0), 1500); err != nil {
		return err
	}
	for i, e := range ends {
		below := e.port(0).ifname
		err := steps(
			func() error { return e.host.up(below) },
			func() error { return e.host.address(below, outer[i], 64) },
		)
		if err != nil {
			return err
		}
	}
	if err := makeEnds(l, ends); err != nil {
		return err
	}
	for _, e := range ends {
		if err := e.host.SetMTU(e.ifname, tunnelMTU); err != nil {
			return err
		}
	}
	return nil
}

// gre makes a GRE tunnel (RFC 2784 and RFC 7676) in IPv6.
func gre(_ *Lab, ends [2]end) error {
	for i, e := range ends {
		err := e.host.change(e.port(0).ifname, "tunnel over", func(below netlink.Link) error {
			return e.host.Netlink.LinkAdd(&netlink.Gretun{
				LinkAttrs: netlink.LinkAttrs{Name: e.ifname}, Link: uint32(below.Attrs().Index),
				Local: outer[i].AsSlice(), Remote: outer[1-i].AsSlice(), Ttl: 64,
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wireGuard makes a WireGuard tunnel, by wg(8).
func wireGuard(l *Lab, ends [2]end) error {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return err
		}
	}
	for i, e := range ends {
		if err := e.host.Netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: e.ifname}}); err != nil {
			return fmt.Errorf("make %s:%s: %w", e.host.Name, e.ifname, err)
		}
		file := filepath.Join(l.Dir, "wireguard-"+e.host.Name)
		if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(keys[i].Bytes())), 0o600); err != nil {
			return err
		}
		out, err := e.host.Command(l.life, "wg", "set", e.ifname, "listen-port", wireGuardPort, "private-key", file,
			"peer", base64.StdEncoding.EncodeToString(keys[1-i].PublicKey().Bytes()), "allowed-ips", "::/0",
			"endpoint", fmt.Sprintf("[%s%%%s]:%s", outer[1-i], e.port(0).ifname, wireGuardPort)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("wg on %s: %w: %s", e.host.Name, err, out)
		}
	}
	return nil
}
