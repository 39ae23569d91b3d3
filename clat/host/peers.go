package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Peer is the other end of a socket of one of the host's programs.
type Peer struct {
	Addr     netip.AddrPort
	TCP      bool
	Answered bool   // it has, in the life of the connection
	User     uint32 // whose socket it is; UnknownUser if the kernel no longer knows
}

// UnknownUser is the user of a connection that its program has closed.
const UnknownUser = 1<<32 - 1

// What include/net/tcp_states.h numbers the states that matter here, as bits.
const (
	tcpEstablished = 1 << 1
	tcpSynSent     = 1 << 2
	tcpFinWait1    = 1 << 4
	tcpFinWait2    = 1 << 5
	tcpTimeWait    = 1 << 6
	tcpCloseWait   = 1 << 8
	tcpLastAck     = 1 << 9
	tcpClosing     = 1 << 11

	tcpPeers = tcpEstablished | tcpSynSent | tcpFinWait1 | tcpFinWait2 | tcpTimeWait | tcpCloseWait | tcpLastAck | tcpClosing
)

// offsetDiagUID is where struct inet_diag_msg has idiag_uid, behind expires,
// rqueue and wqueue.
const offsetDiagUID = sizeofDiagMessage + 12

// maxPeers bounds what Peers returns: a program may have any number of sockets.
const maxPeers = 4096

// Peers lists with whom the host's programs have TCP connections or connected
// UDP sockets from the address a, also in the IPv4-mapped form of IPv6 sockets.
func (k *sockets) Peers(a netip.Addr) (peers []Peer, err error) {
	if k.handle == nil {
		return nil, fmt.Errorf("list sockets: %w", k.missing)
	}
	for _, s := range []struct {
		protocol uint8
		states   uint32
	}{{unix.IPPROTO_TCP, tcpPeers}, {unix.IPPROTO_UDP, tcpEstablished}} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			sockets, err := k.flows(a, family, s.protocol, s.states)
			if err != nil {
				return peers, fmt.Errorf("list sockets: %w", err)
			}
			for _, m := range sockets {
				if p, ok := parsePeer(m, s.protocol == unix.IPPROTO_TCP); ok && len(peers) < maxPeers {
					peers = append(peers, p)
				}
			}
		}
	}
	return peers, nil
}

// parsePeer reads a struct inet_diag_msg (linux/inet_diag.h).
func parsePeer(m []byte, tcp bool) (p Peer, ok bool) {
	if len(m) < offsetDiagUID+4 {
		return p, false
	}
	state := uint32(1) << (m[1] & 31)
	p = Peer{TCP: tcp, Answered: tcp && state != tcpSynSent, User: binary.NativeEndian.Uint32(m[offsetDiagUID:])}
	if state == tcpTimeWait {
		p.User = UnknownUser
	}
	// struct inet_diag_sockid: ports, source, destination, in network order.
	id := m[4:]
	dst := netip.AddrFrom16([16]byte(id[20:36]))
	if m[0] == unix.AF_INET {
		dst = netip.AddrFrom4([4]byte(id[20:24]))
	}
	p.Addr = netip.AddrPortFrom(dst.Unmap(), binary.BigEndian.Uint16(id[2:]))
	return p, dst.Unmap().Is4()
}

// LinkLayer returns the link-layer address of a neighbour on a link, as
// net.HardwareAddr prints it; empty: the kernel does not know it, or the link has
// none.
func (k *Host) LinkLayer(link int, a netip.Addr) string {
	ns, err := k.kernel.handle.NeighList(link, unix.AF_INET6)
	if err != nil {
		return ""
	}
	for _, n := range ns {
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip == a && n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) == 0 {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

// Unreachable reports whether neighbour unreachability detection (RFC 4861
// section 7.3) has found that a neighbour on a link is not there.
func (k *Host) Unreachable(link int, a netip.Addr) bool {
	ns, err := k.kernel.handle.NeighList(link, unix.AF_INET6)
	if err != nil {
		return false
	}
	for _, n := range ns {
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip == a {
			return n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0
		}
	}
	return false
}
