package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

const (
	ifaProto      = 11         // IFA_PROTO of linux/if_addr.h, Linux 5.18; older kernels skip it
	infiniteLife  = 0xffffffff // INFINITY_LIFE_TIME
	socketTimeout = 60         // seconds, as netlink's own handles have
)

func (k *kernel) request(msgType, flags int) *nl.NetlinkRequest {
	return &nl.NetlinkRequest{
		NlMsghdr: unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: uint16(msgType), Flags: unix.NLM_F_REQUEST | uint16(flags)},
		Sockets:  map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.route},
	}
}

// list lists the addresses of all links.
func (k addresses) list() ([]plan.Addr, error) {
	req := k.request(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	var out []plan.Addr
	for _, m := range msgs {
		if a, ok := parseAddr(m); ok {
			out = append(out, a)
		}
	}
	return out, err
}

// parseAddr reads an RTM_NEWADDR message.
func parseAddr(m []byte) (plan.Addr, bool) {
	if len(m) < unix.SizeofIfAddrmsg {
		return plan.Addr{}, false
	}
	head := nl.DeserializeIfAddrmsg(m)
	attrs, err := nl.ParseRouteAttr(m[head.Len():])
	if err != nil {
		return plan.Addr{}, false
	}
	a := plan.Addr{Link: int(head.Index), Valid: plan.Forever, Preferred: plan.Forever}
	flags := uint32(head.Flags)
	var address, local netip.Addr
	for _, at := range attrs {
		v := at.Value
		switch {
		case at.Attr.Type == unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(v)
		case at.Attr.Type == unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case at.Attr.Type == unix.IFA_FLAGS && len(v) >= 4:
			flags = binary.NativeEndian.Uint32(v)
		case at.Attr.Type == unix.IFA_CACHEINFO && len(v) >= 8: // struct ifa_cacheinfo: preferred, valid, ...
			a.Preferred = lifetime(binary.NativeEndian.Uint32(v))
			a.Valid = lifetime(binary.NativeEndian.Uint32(v[4:]))
		case at.Attr.Type == ifaProto && len(v) >= 1:
			a.Protocol = v[0]
		}
	}
	// On a point-to-point link IFA_ADDRESS is the peer and IFA_LOCAL ours.
	if local.IsValid() {
		address = local
	}
	a.Prefix = netip.PrefixFrom(address, int(head.Prefixlen))
	a.Temporary = address.Is6() && flags&unix.IFA_F_TEMPORARY != 0 // the same bit is "secondary" in IPv4
	// The kernel sets the flag some time after the lifetime.
	a.Deprecated = flags&unix.IFA_F_DEPRECATED != 0 || address.Is6() && a.Preferred == 0
	inDAD := flags&unix.IFA_F_TENTATIVE != 0
	a.Optimistic = inDAD && flags&unix.IFA_F_OPTIMISTIC != 0
	a.Tentative = inDAD && !a.Optimistic
	a.DADFailed = flags&unix.IFA_F_DADFAILED != 0
	a.NoRoute = flags&unix.IFA_F_NOPREFIXROUTE != 0
	return a, a.Prefix.IsValid()
}

func lifetime(seconds uint32) time.Duration {
	if seconds == infiniteLife {
		return plan.Forever
	}
	return time.Duration(seconds) * time.Second
}

// AddCLATAddr adds a as /128 without prefix route and with preferred lifetime
// 0, and gives it an address label of its own. Its valid lifetime has no end: an
// address whose DAD fails is kept by the kernel, flagged, only if it is permanent.
// The kernel heeds IFA_F_OPTIMISTIC where the sysctl optimistic_dad says so, as for
// the addresses that it forms itself. It does no DAD if detected says that this is
// done.
func (k addresses) AddCLATAddr(link int, a netip.Addr, detected bool) error {
	if err := k.labelAddr(a); err != nil {
		return fmt.Errorf("address label: %w", err)
	}
	req := k.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	msg := nl.NewIfAddrmsg(unix.AF_INET6)
	msg.Prefixlen = 128
	msg.Index = uint32(link)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.AsSlice()))
	flags := uint32(unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_OPTIMISTIC)
	if detected {
		flags = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD
	}
	req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(flags)))
	cache := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Prefered: 0, Valid: infiniteLife}}
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, cache.Serialize()))
	req.AddData(nl.NewRtAttr(ifaProto, []byte{plan.Protocol}))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	switch {
	case errors.Is(err, unix.EEXIST):
		// It came back by itself, or somebody else put it there since we
		// looked; the next observation will tell what it is.
		return nil
	case errors.Is(err, unix.EACCES):
		return plan.ErrIPv6Off
	}
	return err
}

// DelCLATAddr removes a and its label.
func (k addresses) DelCLATAddr(link int, a netip.Addr) error {
	req := k.request(unix.RTM_DELADDR, unix.NLM_F_ACK)
	msg := nl.NewIfAddrmsg(unix.AF_INET6)
	msg.Prefixlen = 128
	msg.Index = uint32(link)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.AsSlice()))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err = unlessGone(err); err != nil {
		return err
	}
	return k.unlabelAddr(a)
}

// unlessGone turns the errors that say "there is no such thing" into nil.
func unlessGone(err error) error {
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
