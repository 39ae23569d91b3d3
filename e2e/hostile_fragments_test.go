package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// piece is a fragment of a datagram.
type piece struct {
	offset, length int
	last           bool
	fill           byte // 0: as in the datagram; else these bytes instead
}

const (
	more, last = false, true

	// fragmentedLen is the length of the datagrams that are fragmented, with the
	// header of their protocol.
	fragmentedLen = 1200
)

// forgeries are fragments of which nothing is delivered.
var forgeries = [][]piece{
	{{0, 600, more, 0}, {592, 608, last, 0}},
	{{600, 600, last, 0}, {304, 600, more, 'x'}, {0, 600, more, 0}},
	{{8, 592, more, 0}, {0, 16, more, 0}, {600, 600, last, 0}},      // into the first
	{{0, 1192, more, 0}, {8, 1192, last, 'x'}},                      // the rest again (RFC 3128)
	{{600, 600, last, 0}, {0, 1000, more, 0}},                       // into the last
	{{0, 600, more, 0}, {1192, 8, last, 0}, {304, 896, more, 0}},    // ends within
	{{600, 304, last, 'x'}, {600, 600, last, 0}, {0, 600, more, 0}}, // two ends, the nearer first
	{{600, 600, last, 0}, {600, 304, last, 'x'}, {0, 600, more, 0}}, // and the other way round
	{{600, 600, last, 0}, {1200, 8, more, 'x'}, {0, 600, more, 0}},  // behind the end
	{{1200, 8, more, 'x'}, {600, 600, last, 0}, {0, 600, more, 0}},  // before the end is known
	{{0, 600, more, 0}, {65528, 16, last, 'x'}},                     // longer than any datagram
	{{0, 600, more, 0}, {608, 592, last, 0}},                        // a hole
	{{0, 600, more, 0}, {0, 600, more, 'x'}, {608, 592, last, 0}},   // as many bytes as a whole one
	{{0, 604, more, 0}, {600, 600, last, 0}},                        // no multiple of 8 (RFC 8200 section 4.5)
}

// intact are fragments of a datagram that arrives.
var intact = [][]piece{
	{{0, 600, more, 0}, {600, 600, last, 0}},
	{{600, 600, last, 0}, {0, 600, more, 0}},
	{{0, 24, more, 0}, {24, 1176, last, 0}},
	{{0, 1200, last, 0}}, // atomic (RFC 6946)
}

// Of TCP the first 8 bytes are no fragment: a filter could not judge them (RFC 1858).
// Other protocols have such fragments.
var (
	tinyIntact = [][]piece{
		{{0, 8, more, 0}, {8, 1192, last, 0}},
		{{8, 1192, last, 0}, {0, 8, more, 0}},
	}
	tinyForgery = []piece{{0, 8, more, 0}, {0, 600, more, 'x'}, {600, 600, last, 0}}
)

// fragmentPath is a way on which fragments are sent and datagrams heard.
type fragmentPath struct {
	protocol layers.IPProtocol // the IPv4 one
	send     func(t *testing.T, id uint32, p piece, data []byte)
	datagram func(t *testing.T, content string) []byte
	next     func(limit time.Duration) string // content; "" if nothing came
}

// headerLen is how long the header of the protocol is.
func (p fragmentPath) headerLen() int {
	if p.protocol == layers.IPProtocolTCP {
		return 20
	}
	return 8
}

// TestHostileFragments sends datagrams in fragments that overlap, contradict each
// other or miss something, from the link to the CLAT and from the CLAT, of each
// protocol. Nothing of them reaches anybody (RFC 5722 section 4), and whole datagrams
// in fragments do, also between the parts of others.
func TestHostileFragments(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		b, mac := w.neighbour(t), w.uplinkMAC(t)
		for _, protocol := range []layers.IPProtocol{layers.IPProtocolUDP, layers.IPProtocolTCP, layers.IPProtocolICMPv4} {
			t.Run(protocol.String(), func(t *testing.T) {
				t.Run("in", func(t *testing.T) { w.fragmentsIn(t, b, mac, protocol).test(t) })
				t.Run("out", func(t *testing.T) { w.fragmentsOut(t, protocol).test(t) })
			})
		}
		w.page(t)
	})
}

func (p fragmentPath) test(t *testing.T) {
	id := uint32(0)
	send := func(fill string, pieces []piece) {
		t.Helper()
		datagram := p.datagram(t, strings.Repeat(fill, fragmentedLen-p.headerLen()))
		for _, piece := range pieces {
			data := bytes.Repeat([]byte{piece.fill}, piece.length)
			if piece.fill == 0 {
				data = datagram[piece.offset : piece.offset+piece.length]
			}
			p.send(t, id, piece, data)
		}
	}
	arrives := func(what string, send func()) {
		t.Helper()
		eventually(t, stepTimeout, func() error {
			id++
			send()
			for got := p.next(time.Second); ; got = p.next(time.Second) {
				switch got {
				case strings.Repeat("w", fragmentedLen-p.headerLen()):
					return nil
				case strings.Repeat("c", fragmentedLen-p.headerLen()):
				case "":
					return fmt.Errorf("%s: a datagram in fragments is not delivered", what)
				default:
					t.Errorf("%s: a datagram of %d bytes, %.20q, of wrong fragments is delivered", what, len(got), got)
				}
			}
		})
	}
	none, whole := append(slices.Clone(forgeries), tinyForgery), slices.Concat(intact, tinyIntact)
	if p.protocol == layers.IPProtocolTCP {
		none, whole = slices.Concat(forgeries, tinyIntact), intact
	}
	for range 2 {
		for n, pieces := range none {
			id++
			send("e", pieces)
			arrives(fmt.Sprint("behind forgery ", n), func() { send("w", intact[0]) })
		}
		// The kernel takes a part of what it has for a copy, and ignores it.
		for _, pieces := range [][]piece{
			{{0, 600, more, 0}, {304, 296, more, 'x'}, {600, 600, last, 0}},
			{{0, 600, more, 0}, {0, 600, more, 'x'}, {600, 600, last, 0}},
			{{0, 16, more, 0}, {16, 584, more, 0}, {8, 16, more, 'x'}, {600, 600, last, 0}},
		} {
			id++
			send("c", pieces)
		}
		for n, pieces := range whole {
			arrives(fmt.Sprint("intact ", n), func() { send("w", pieces) })
		}
		arrives("atomic among others of its number", func() {
			send("e", []piece{{0, 600, more, 0}})
			send("w", []piece{{0, 1200, last, 0}})
		})
	}
}

// fragmentsIn has a neighbour send to the CLAT in the name of a host behind PREF64.
func (w *world) fragmentsIn(t *testing.T, b *lab.Neighbour, mac net.HardwareAddr, protocol layers.IPProtocol) fragmentPath {
	ipv4 := netip.MustParseAddr("198.51.100.77")
	ip := &layers.IPv6{Version: 6, HopLimit: 64, SrcIP: lab.Synthesize(lab.WellKnownPrefix, ipv4).AsSlice(), DstIP: w.clat.IPv6.AsSlice()}
	number := protocol
	if protocol == layers.IPProtocolICMPv4 {
		number = layers.IPProtocolICMPv6
	}
	return fragmentPath{
		protocol: protocol,
		datagram: func(t *testing.T, content string) []byte {
			ip := *ip
			ip.NextHeader = number
			var l []gopacket.SerializableLayer
			if number == layers.IPProtocolICMPv6 {
				l = []gopacket.SerializableLayer{
					&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoReply, 0)}, &layers.ICMPv6Echo{Identifier: 4000},
				}
			} else {
				l = transport(protocol)
			}
			l = append([]gopacket.SerializableLayer{&ip}, append(l, gopacket.Payload(content))...)
			return frameTo(t, b, mac, l...)[14+40:]
		},
		send: func(t *testing.T, id uint32, p piece, data []byte) {
			header := []byte{byte(number), 0, 0, 0, 0, 0, 0, 0}
			offset := uint16(p.offset)
			if !p.last {
				offset |= 1
			}
			binary.BigEndian.PutUint16(header[2:], offset)
			binary.BigEndian.PutUint32(header[4:], id)
			ip := *ip
			ip.NextHeader = layers.IPProtocolIPv6Fragment
			if err := b.Send(frameTo(t, b, mac, &ip, gopacket.Payload(append(header, data...)))); err != nil {
				t.Fatal(err)
			}
		},
		next: hear(t, w.Laptop, protocol, netip.PrefixFrom(ipv4, 32)),
	}
}

// fragmentsOut has the laptop send to the server.
func (w *world) fragmentsOut(t *testing.T, protocol layers.IPProtocol) fragmentPath {
	var fd int
	if err := w.Laptop.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: w.clat.IPv4.AsSlice(), DstIP: lab.ServerIPv4.AsSlice()}
	serialize := func(t *testing.T, l ...gopacket.SerializableLayer) []byte {
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	return fragmentPath{
		protocol: protocol,
		datagram: func(t *testing.T, content string) []byte {
			l := transport(protocol)
			for _, l := range l {
				if l, ok := l.(interface {
					SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
				}); ok {
					if err := l.SetNetworkLayerForChecksum(ip); err != nil {
						t.Fatal(err)
					}
				}
			}
			return serialize(t, append(l, gopacket.Payload(content))...)
		},
		send: func(t *testing.T, id uint32, p piece, data []byte) {
			ip := *ip
			ip.Id, ip.FragOffset = uint16(id), uint16(p.offset/8)
			if !p.last {
				ip.Flags = layers.IPv4MoreFragments
			}
			err := unix.Sendto(fd, serialize(t, &ip, gopacket.Payload(data)), 0, &unix.SockaddrInet4{Addr: lab.ServerIPv4.As4()})
			if err != nil && !errors.Is(err, unix.EMSGSIZE) { // longer than any datagram
				t.Fatal(err)
			}
		},
		next: hear(t, w.Server, protocol, lab.Pool),
	}
}

// transport are the layers of a datagram to which nobody answers but by ICMP.
func transport(protocol layers.IPProtocol) []gopacket.SerializableLayer {
	switch protocol {
	case layers.IPProtocolUDP:
		return []gopacket.SerializableLayer{&layers.UDP{SrcPort: 4000, DstPort: 4001}}
	case layers.IPProtocolTCP:
		return []gopacket.SerializableLayer{&layers.TCP{SrcPort: 4000, DstPort: 4001, RST: true}}
	}
	return []gopacket.SerializableLayer{&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0), Id: 4000}}
}

// hear returns a function that waits for the next datagram from a network at a host,
// and returns what is behind its header.
func hear(t *testing.T, h *lab.Host, protocol layers.IPProtocol, from netip.Prefix) func(limit time.Duration) string {
	var conn net.PacketConn
	if err := h.Do(func() (err error) {
		conn, err = net.ListenPacket(fmt.Sprintf("ip4:%d", protocol), "0.0.0.0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	header := fragmentPath{protocol: protocol}.headerLen()
	return func(limit time.Duration) string {
		buf := make([]byte, 1<<16)
		conn.SetReadDeadline(time.Now().Add(limit))
		for {
			n, addr, err := conn.ReadFrom(buf)
			if err != nil {
				return ""
			}
			if a, ok := netip.AddrFromSlice(addr.(*net.IPAddr).IP); ok && from.Contains(a.Unmap()) && n >= header {
				return string(buf[header:n])
			}
		}
	}
}
