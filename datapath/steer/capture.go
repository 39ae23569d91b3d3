package steer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Captured reports whether a program captures packets on a TUN: the interface is
// promiscuous, as tcpdump makes it, or a packet socket is bound to it or to all
// interfaces (tcpdump -p, tcpdump -i any). The kernel engine redirects packets
// where no such program sees them, so it should pause meanwhile.
//
// The kernel sends an RTM_NEWLINK message when an interface becomes promiscuous
// or ceases to be. It does not announce packet sockets.
func Captured(h *netlink.Handle, tun int) (bool, error) {
	l, err := h.LinkByIndex(tun)
	if err != nil {
		return false, &Error{fmt.Sprintf("find the TUN, interface %d", tun), err}
	}
	if l.Attrs().Promisc > 0 {
		return true, nil
	}
	return packetSocketOn(tun)
}

// Of include/uapi/linux/packet_diag.h.
const (
	packetShowInfo   = 1 // PACKET_SHOW_INFO
	packetDiagInfo   = 0 // attribute PACKET_DIAG_INFO
	sizeofPacketDiag = 16
	sockDiagByFamily = 20
)

// packetDiagRequest is struct packet_diag_req.
type packetDiagRequest struct{}

func (packetDiagRequest) Len() int { return 20 }

func (packetDiagRequest) Serialize() []byte {
	b := make([]byte, 20)
	b[0] = unix.AF_PACKET
	binary.NativeEndian.PutUint32(b[8:], packetShowInfo)
	return b
}

// packetSocketOn reports whether a packet socket that receives IPv4 is bound to
// an interface or to all of them, in the network namespace of the calling thread.
// Where the kernel has no packet_diag nothing is known, which is no error.
func packetSocketOn(ifindex int) (bool, error) {
	found := false
	req := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
	req.AddData(packetDiagRequest{})
	err := req.ExecuteIter(unix.NETLINK_SOCK_DIAG, sockDiagByFamily, func(m []byte) bool {
		found = found || receivesFrom(m, ifindex)
		return true
	})
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
		return false, &Error{"list the packet sockets", err}
	}
	return found, nil
}

// receivesFrom reports whether m, a struct packet_diag_msg with attributes, is
// about a socket that receives IPv4 packets of an interface.
func receivesFrom(m []byte, ifindex int) bool {
	if len(m) < sizeofPacketDiag {
		return false
	}
	if p := binary.NativeEndian.Uint16(m[2:]); p != unix.ETH_P_ALL && p != unix.ETH_P_IP {
		return false // 0: it receives nothing yet
	}
	attrs, err := nl.ParseRouteAttr(m[sizeofPacketDiag:])
	if err != nil {
		return false
	}
	for _, a := range attrs {
		if a.Attr.Type == packetDiagInfo && len(a.Value) >= 4 {
			i := int(binary.NativeEndian.Uint32(a.Value))
			return i == ifindex || i == 0
		}
	}
	return false
}
