package host

import (
	"encoding/binary"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// linkMessage is a link as netlink understands it, with what it leaves out.
type linkMessage struct {
	netlink.Link
	carrierChanges int
}

// list lists the links of the host.
func (k links) list() ([]linkMessage, error) {
	req := k.request(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	var out []linkMessage
	for _, m := range msgs {
		l, parseErr := netlink.LinkDeserialize(nil, m)
		if parseErr != nil {
			return nil, parseErr
		}
		out = append(out, linkMessage{l, carrierChanges(m)})
	}
	return out, err
}

// carrierChanges reads IFLA_CARRIER_CHANGES (Linux 3.16) of an RTM_NEWLINK
// message: how often the link has gained or lost its carrier.
func carrierChanges(m []byte) int {
	if len(m) < unix.SizeofIfInfomsg {
		return 0
	}
	attrs, err := nl.ParseRouteAttr(m[unix.SizeofIfInfomsg:])
	if err != nil {
		return 0
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_CARRIER_CHANGES && len(a.Value) >= 4 {
			return int(binary.NativeEndian.Uint32(a.Value))
		}
	}
	return 0
}

func linksOf(links []linkMessage) []plan.Link {
	bridges := map[int]bool{}
	for _, l := range links {
		if l.Type() == "bridge" {
			bridges[l.Attrs().Index] = true
		}
	}
	out := make([]plan.Link, 0, len(links))
	for _, l := range links {
		a := l.Attrs()
		out = append(out, plan.Link{
			Index: a.Index, Name: a.Name, AltNames: a.AltNames, Kind: kind(l.Link), Alias: a.Alias,
			Up: a.Flags&net.FlagUp != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0, CarrierChanges: l.carrierChanges,
			Loopback: a.Flags&net.FlagLoopback != 0, BridgePort: bridges[a.MasterIndex], MTU: a.MTU, SuperPacket: int(max(a.GSOMaxSize, a.GROMaxSize)),
		})
	}
	return out
}
