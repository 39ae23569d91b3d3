package steer

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
)

// The UDP header of a tunnel has a finished checksum while that of the packet inside
// is left to the network card. It stays right for what the card then sends.
func TestEngineInnerChecksum(t *testing.T) {
	const inner, field = 8 + 12, 6 // from the outer UDP header on, and from there
	// tunnelled returns an outer UDP header with such content.
	tunnelled := func(src, dst netip.Addr) []byte {
		d := append([]byte{4, 87, 8, 174, 0, 68, 0, 0}, make([]byte, 60)...)
		for i := range d[8:] {
			d[8+i] = byte(7 * i)
		}
		copy(d[inner+field:], []byte{0x12, 0x34}) // the sum of a pseudo-header
		done := finished(d, inner, field)
		binary.BigEndian.PutUint16(d[6:], ^transportSum(src, dst, protoUDP, len(d), done))
		return d
	}
	l := newLab(t)
	l.ipv4(t, plainConfig, 1480)
	s := l.engine(t, Auto, plainConfig)
	out := l.laptop.wire(t, "clat0")
	out.write(t, vnetHeader{flags: needsCsum, csumStart: 20 + inner, csumOffset: field}, rawIPv4(protoUDP, 64, 0x4000, nil, tunnelled(clat4, plat4)))
	f, ok := l.wire.next(t, patience, func(f frame) bool { return len(f.data) == 14+40+68 && isIPv6(f.ip()) && f.ip()[6] == protoUDP })
	if !ok {
		t.Fatal("nothing leaves")
	}
	d := f.ip()[40:]
	if f.vnet.flags&needsCsum != 0 {
		d = finished(d, int(f.vnet.csumStart)-14-40, int(f.vnet.csumOffset))
	}
	if sum := transportSum(clat6, plat6, protoUDP, len(d), d); sum != 0xffff {
		t.Errorf("to IPv6: the sum is %#04x: %x", sum, d)
	}

	var raw net.PacketConn
	l.laptop.do(t, func() (err error) { raw, err = net.ListenPacket("ip4:17", clat4.String()); return err })
	defer raw.Close()
	queue, b, n := queueMemory(t, s), make([]byte, 2000), 0
	for range 20 {
		queue.finish() // the router's answer to the first packet goes to user space
		l.wire.write(t, vnetHeader{flags: needsCsum, csumStart: 14 + 40 + inner, csumOffset: field},
			ethernet(l.laptopMAC, l.routerMAC, etherIPv6, ipv6(plat6, clat6, protoUDP, tunnelled(plat6, clat6))))
		raw.SetReadDeadline(time.Now().Add(time.Second))
		var err error
		if n, _, err = raw.ReadFrom(b); err == nil {
			break
		}
	}
	if n == 0 {
		t.Fatal("nothing is delivered")
	}
	d = b[:n]
	if binary.BigEndian.Uint16(d[inner+field:]) == 0x1234 {
		d = finished(d, inner, field)
	}
	if sum := transportSum(plat4, clat4, protoUDP, len(d), d); sum != 0xffff {
		t.Errorf("to IPv4: the sum is %#04x: %x", sum, d)
	}
}

// finished returns a copy of b with the checksum that a network card computes.
func finished(b []byte, start, field int) []byte {
	c := append([]byte(nil), b...)
	binary.BigEndian.PutUint16(c[start+field:], ^foldWords(c[start:]))
	return c
}
