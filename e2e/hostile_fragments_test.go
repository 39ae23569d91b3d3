package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tnat64d/internal/lab"
)

// TestHostileUDPFragments has a neighbour send a datagram behind PREF64 in fragments
// that overlap, in any order. Nothing of it reaches a program (RFC 5722 section 4),
// and whole datagrams in fragments do, also between the parts of others.
func TestHostileUDPFragments(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		b := w.neighbour(t)
		port, next := w.datagramsTo(t, "udp4", net.JoinHostPort(w.clat.IPv4.String(), "0"))
		from := lab.Synthesize(lab.WellKnownPrefix, netip.MustParseAddr("198.51.100.77"))
		mac, id := w.uplinkMAC(t), uint32(0)

		type piece struct {
			offset, length int
			last           bool
			fill           byte // 0: as in the datagram; else these bytes instead
		}
		send := func(content string, pieces []piece) {
			t.Helper()
			id++
			frame := frameTo(t, b, mac, udp6(netip.AddrPortFrom(from, 4000), netip.AddrPortFrom(w.clat.IPv6, port), content)...)
			datagram := frame[14+40:]
			for _, p := range pieces {
				data := bytes.Clone(datagram[p.offset:min(p.offset+p.length, len(datagram))])
				if p.fill != 0 {
					data = bytes.Repeat([]byte{p.fill}, len(data))
				}
				header := []byte{byte(layers.IPProtocolUDP), 0, 0, 0, 0, 0, 0, 0}
				offset := uint16(p.offset)
				if !p.last {
					offset |= 1
				}
				binary.BigEndian.PutUint16(header[2:], offset)
				binary.BigEndian.PutUint32(header[4:], id)
				if err := b.Send(frameTo(t, b, mac,
					&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolIPv6Fragment, SrcIP: from.AsSlice(), DstIP: w.clat.IPv6.AsSlice()},
					gopacket.Payload(append(header, data...)))); err != nil {
					t.Fatal(err)
				}
			}
		}
		const more, last = false, true
		whole := strings.Repeat("w", 1192) // 1200 bytes with the UDP header
		copied := strings.Repeat("c", 1192)
		evil := strings.Repeat("e", 1192)
		overlaps := [][]piece{
			{{0, 600, more, 0}, {592, 608, last, 0}},
			{{600, 600, last, 0}, {304, 600, more, 'x'}, {0, 600, more, 0}},
			{{8, 592, more, 0}, {0, 16, more, 0}, {600, 600, last, 0}},   // into the first
			{{0, 1192, more, 0}, {8, 1192, last, 'x'}},                   // the rest again
			{{0, 8, more, 0}, {0, 600, more, 'x'}, {600, 600, last, 0}},  // a header of its own first
			{{600, 600, last, 0}, {0, 1000, more, 0}},                    // into the last
			{{0, 600, more, 0}, {1192, 8, last, 0}, {304, 896, more, 0}}, // ends within
		}
		for range 3 {
			for _, pieces := range overlaps {
				send(evil, pieces)
			}
			// The kernel takes a part of what it has for a copy, and ignores it.
			send(copied, []piece{{0, 600, more, 0}, {304, 296, more, 'x'}, {600, 600, last, 0}})
			for _, pieces := range [][]piece{
				{{0, 600, more, 0}, {600, 600, last, 0}},
				{{600, 600, last, 0}, {0, 600, more, 0}},
			} {
				eventually(t, stepTimeout, func() error {
					send(whole, pieces)
					for got := next(time.Second); ; got = next(time.Second) {
						switch got {
						case whole:
							return nil
						case copied:
						case "":
							return errors.New("a datagram in fragments is not delivered")
						default:
							t.Errorf("a datagram of %d bytes, %.20q, of overlapping fragments is delivered", len(got), got)
						}
					}
				})
			}
		}
		w.page(t)
	})
}
