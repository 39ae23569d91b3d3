package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Flood is a storm of Router Advertisements.
type Flood struct {
	Routers   int           // each with a link-local address, a PREF64 and a /64 of its own; default 100
	PerSecond int           // messages of all together; default 1000
	For       time.Duration // default 1 s

	// Advert makes what the i-th router says, counted from 0. By default it is
	// a default router with PREF64 3fff:f100:I::/96 and no prefix to make
	// addresses of.
	Advert func(i int) Advert
}

// Flood sends a storm of RAs to the laptop, whose senders do not exist, and
// returns how many it sent when it is over.
func (n *Network) Flood(ctx context.Context, f Flood) (sent int, err error) {
	if f.Routers == 0 {
		f.Routers = 100
	}
	if f.PerSecond == 0 {
		f.PerSecond = 1000
	}
	if f.For == 0 {
		f.For = time.Second
	}
	if f.Advert == nil {
		f.Advert = func(i int) Advert {
			return Advert{
				RouterLifetime: 30 * time.Minute,
				PREF64:         []PREF64{{netip.PrefixFrom(addr16(0x3ffff100, uint32(i)<<16), 96), 10 * time.Minute}},
			}
		}
	}
	frames := make([][]byte, f.Routers)
	for i := range frames {
		local := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: 0x0f, 9: 0x10, 14: byte(i >> 8), 15: byte(i)})
		advert := f.Advert(i)
		if advert.Source == nil {
			advert.Source = net.HardwareAddr{0x02, 0x0f, 0x10, 0, byte(i >> 8), byte(i)}
		}
		message, err := advert.Encode()
		if err != nil {
			return 0, fmt.Errorf("flood: %w", err)
		}
		frames[i] = frame(advert.Source, local, message)
	}
	fd, to, err := n.packetSocket()
	if err != nil {
		return 0, fmt.Errorf("flood: %w", err)
	}
	defer unix.Close(fd)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); ; {
		due := int(min(time.Since(start), f.For).Seconds() * float64(f.PerSecond))
		for ; sent < due; sent++ {
			if err := unix.Sendto(fd, frames[sent%len(frames)], 0, to); err != nil {
				return sent, fmt.Errorf("flood: %w", err)
			}
		}
		if time.Since(start) >= f.For {
			return sent, nil
		}
		select {
		case <-ctx.Done():
			return sent, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// SendRAFrom multicasts an ICMPv6 message to the laptop's link from any
// link-local address, which need not exist. The checksum is filled in.
func (n *Network) SendRAFrom(local netip.Addr, message []byte) error {
	fd, to, err := n.packetSocket()
	if err != nil {
		return fmt.Errorf("RA from %s: %w", local, err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, frame(n.mac, local, message), 0, to); err != nil {
		return fmt.Errorf("RA from %s: %w", local, err)
	}
	return nil
}

// packetSocket opens a socket for Ethernet frames to the laptop.
func (n *Network) packetSocket() (fd int, to *unix.SockaddrLinklayer, err error) {
	link, err := n.Router.Netlink.LinkByName(lan)
	if err != nil {
		return -1, nil, err
	}
	err = n.Router.Do(func() error {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	return fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}, err
}

// frame makes the Ethernet frame of an ICMPv6 message to all nodes.
func frame(mac net.HardwareAddr, source netip.Addr, message []byte) []byte {
	allNodes := netip.MustParseAddr("ff02::1")
	b := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IPV6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(message)))
	b = append(b, unix.IPPROTO_ICMPV6, 255)
	b = append(b, source.AsSlice()...)
	b = append(b, allNodes.AsSlice()...)
	at := len(b)
	b = append(b, message...)
	b[at+2], b[at+3] = 0, 0
	// RFC 4443 section 2.3: over the pseudo-header too.
	sum := uint32(len(message)) + unix.IPPROTO_ICMPV6
	for i, octet := range b[ethernetHeader+8:] {
		if i%2 == 0 {
			sum += uint32(octet) << 8
		} else {
			sum += uint32(octet)
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[at+2:], ^uint16(sum))
	return b
}
