package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tnat64d/internal/lab"
)

// tagged returns an Ethernet frame with VLAN tags: an EtherType and a number for each.
func tagged(frame []byte, tags ...uint16) []byte {
	var b []byte
	for _, t := range tags {
		b = binary.BigEndian.AppendUint16(b, t)
	}
	return slices.Concat(frame[:12], b, frame[12:])
}

// TestHostileTags has a neighbour send to the CLAT in frames of VLANs and other
// encapsulations. IPv6 is taken where the kernel would take it, and IPv4 nowhere,
// though rp_filter does not stop it.
func TestHostileTags(t *testing.T) {
	t.Parallel()
	const dot1q, dot1ad = 0x8100, 0x88a8
	pppoe := func(protocol uint16) func(f []byte) []byte {
		return func(f []byte) []byte {
			b := []byte{0x88, 0x64, 0x11, 0, 0, 1}
			b = binary.BigEndian.AppendUint16(b, uint16(len(f)-14+2))
			b = binary.BigEndian.AppendUint16(b, protocol)
			return slices.Concat(f[:12], b, f[14:])
		}
	}
	snap := func(f []byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(len(f)-14+8))
		b = append(b, 0xaa, 0xaa, 3, 0, 0, 0)
		return slices.Concat(f[:12], b, f[12:])
	}
	tag := func(tags ...uint16) func(f []byte) []byte {
		return func(f []byte) []byte { return tagged(f, tags...) }
	}
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorldOn(t, stage{config: config, prepare: func(l *lab.Lab) error {
			return errors.Join(l.Laptop.Sysctl("net.ipv4.conf.all.rp_filter", "0"), l.Laptop.Sysctl("net.ipv4.conf."+lab.Uplink+".rp_filter", "0"))
		}})
		b, mac := w.neighbour(t), w.uplinkMAC(t)
		port, next := w.datagramsTo(t, "udp4", "0.0.0.0:0")
		from := netip.MustParseAddr("198.51.100.66")
		number := 0
		send := func(to net.HardwareAddr, ipv6 bool, wrap func([]byte) []byte) (payload string) {
			number++
			payload = "frame " + strconv.Itoa(number)
			content := udp4(netip.AddrPortFrom(from, 7), netip.AddrPortFrom(w.clat.IPv4, port), payload)
			if ipv6 {
				content = udp6(netip.AddrPortFrom(lab.Synthesize(lab.WellKnownPrefix, from), 7), netip.AddrPortFrom(w.clat.IPv6, port), payload)
			}
			if err := b.Send(wrap(frameTo(t, b, to, content...))); err != nil {
				t.Fatal(err)
			}
			return payload
		}
		for _, c := range []struct {
			name string
			wrap func([]byte) []byte
			ipv6 fate
		}{
			{"no tag", tag(), taken},
			{"priority tag", tag(dot1q, 0xe000), taken},
			{"VLAN", tag(dot1q, 5), left},
			{"service VLAN", tag(dot1ad, 5), left},
			{"service priority tag", tag(dot1ad, 0), either},
			{"VLAN in a priority tag", tag(dot1q, 0, dot1q, 5), left},
			{"priority tag in a VLAN", tag(dot1q, 5, dot1q, 0), left},
			{"two priority tags", tag(dot1q, 0, dot1q, 0), either},
			{"two service priority tags", tag(dot1ad, 0, dot1ad, 0), either},
			{"five priority tags", tag(dot1q, 0, dot1q, 0, dot1q, 0, dot1q, 0, dot1q, 0), either},
			{"nine priority tags", tag(slices.Repeat([]uint16{dot1q, 0}, 9)...), either},
			{"PPPoE, IPv6", pppoe(0x57), left},
			{"PPPoE, IPv4", pppoe(0x21), left},
			{"LLC", snap, left},
		} {
			eventually(t, stepTimeout, func() error {
				var ipv4 []string
				for _, to := range []net.HardwareAddr{mac, bytes.Repeat([]byte{0xff}, 6), {1, 0, 0x5e, 0, 0, 1}} {
					ipv4 = append(ipv4, send(to, false, c.wrap))
				}
				ipv6, end := send(mac, true, c.wrap), send(mac, true, tag())
				arrived := false
				for got := next(time.Second); got != end; got = next(time.Second) {
					switch {
					case got == "":
						return fmt.Errorf("%s: the frame behind it does not arrive", c.name)
					case slices.Contains(ipv4, got):
						t.Errorf("%s: IPv4 is taken", c.name)
					case got == ipv6:
						arrived = true
					}
				}
				switch {
				case c.ipv6 == left && arrived:
					t.Errorf("%s: IPv6 is taken", c.name)
				case c.ipv6 == taken && !arrived:
					return fmt.Errorf("%s: IPv6 is not taken", c.name)
				}
				return nil
			})
		}
		w.page(t)
	})
}

// fate is what becomes of a frame.
type fate int

const (
	taken fate = iota
	left
	either // which does not matter
)

// TestHostileDressedIPv4 has a neighbour send IPv4 from the CLAT's address in an IPv6 frame,
// with the CLAT's IPv6 address where IPv6 has its destination. It is no packet of a local
// program: the translator must not send it on.
func TestHostileDressedIPv4(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		b, mac := w.neighbour(t), w.uplinkMAC(t)
		const esp = 50
		next := hear(t, w.Server, esp, lab.Pool)
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: esp, SrcIP: w.clat.IPv4.AsSlice(), DstIP: lab.ServerIPv4.AsSlice()}
		clat6 := w.clat.IPv6.As16()
		frame := frameTo(t, b, mac, ip, gopacket.Payload(slices.Concat([]byte("dres"), clat6[:], []byte("sed up"))))
		binary.BigEndian.PutUint16(frame[12:], 0x86dd)
		for range 5 {
			if err := b.Send(frame); err != nil {
				t.Fatal(err)
			}
		}
		if got := next(time.Second); got != "" {
			t.Errorf("the server has received %q in the name of the CLAT", got)
		}
	})
}
