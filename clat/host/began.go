package host

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// Began lists the TCP connections and UDP sockets of this host from a, an IPv4
// address, and the masqueraded connections of other hosts and containers. A UDP
// socket that is not connected has the zero Remote. It lists at most limit of them,
// and one more if there are more.
func (k *Host) Began(a netip.Addr, limit int) []plan.Connection {
	cs := append(k.Connections(a), k.unconnected(a)...)
	if len(cs) <= limit {
		cs = append(cs, masqueraded(k.kernel.handle, a, limit)...)
	}
	return cs[:min(len(cs), limit+1)]
}

// unconnected lists the UDP sockets that are not connected and may send from a.
func (k *sockets) unconnected(a netip.Addr) (cs []plan.Connection) {
	if k.handle == nil {
		return nil
	}
	const closed = 1 << 7 // the state of such a socket
	for _, of := range []struct {
		family uint8
		local  netip.Addr
	}{{unix.AF_INET, a}, {unix.AF_INET, netip.IPv4Unspecified()}, {unix.AF_INET6, a}, {unix.AF_INET6, netip.IPv6Unspecified()}} {
		sockets, err := k.flows(of.local, of.family, unix.IPPROTO_UDP, closed)
		if err != nil {
			continue
		}
		for _, s := range sockets {
			if len(s) >= sizeofDiagMessage {
				cs = append(cs, plan.Connection{Protocol: unix.IPPROTO_UDP, Port: binary.BigEndian.Uint16(s[4:])})
			}
		}
	}
	return cs
}

// masqueraded lists the flows that connection tracking translates to a. Where no
// program uses that there are none. A table that would take much memory to read it
// takes for too many flows.
func masqueraded(h *netlink.Handle, a netip.Addr, limit int) (cs []plan.Connection) {
	// Without the file the kernel's module is not loaded, and asking would do it.
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		return nil
	}
	const others = 8 // flows that are not a's, for each of its own
	if count, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || count > others*limit {
		return make([]plan.Connection, limit+1)
	}
	flows, err := h.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		return nil
	}
	for _, f := range flows {
		reply := f.Reverse
		to, ok := netip.AddrFromSlice(reply.DstIP)
		from, known := netip.AddrFromSlice(reply.SrcIP)
		if !ok || !known || to.Unmap() != a || reply.Protocol != unix.IPPROTO_TCP && reply.Protocol != unix.IPPROTO_UDP {
			continue
		}
		cs = append(cs, plan.Connection{Protocol: reply.Protocol, Port: reply.DstPort, Remote: netip.AddrPortFrom(from.Unmap(), reply.SrcPort)})
	}
	return cs
}
