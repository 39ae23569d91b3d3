package nexthop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrOther is returned by Restore and RestoreGroup if the number now belongs to
// something else, or the object is of a kind that cannot be restored.
var ErrOther = errors.New("the nexthop object is another one")

// Restorable reports whether package nexthop can make o anew: not if it has an
// encapsulation, nor if it is a resilient group, whose state the kernel does not
// report with it.
func (o Object) Restorable() bool { return !o.special }

// Restore makes the nexthop object id, which is no group, unless it is there.
func (k Client) Restore(id uint32, o Object) error {
	objects, err := k.Objects()
	if err != nil {
		return err
	}
	if now, ok := objects[id]; ok {
		if now.special || now.Members != nil || now.Link != o.Link || now.Gateway != o.Gateway || (now.Flags^o.Flags)&unix.RTNH_F_ONLINK != 0 {
			return ErrOther
		}
		return nil
	}
	req := k.change(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	family := uint8(unix.AF_INET)
	if o.IPv6 {
		family = unix.AF_INET6
	}
	req.AddData(header(family, o.Protocol, o.Flags&unix.RTNH_F_ONLINK))
	req.AddData(nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(id)))
	req.AddData(nl.NewRtAttr(unix.NHA_OIF, nl.Uint32Attr(uint32(o.Link))))
	if o.Gateway.IsValid() {
		req.AddData(nl.NewRtAttr(unix.NHA_GATEWAY, o.Gateway.AsSlice()))
	}
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("add nexthop object %d: %w", id, err)
	}
	return nil
}

// RestoreGroup makes the group id of o's members, all of which must exist, or adds
// those that the kernel has taken out of it. lost reports whether it has taken out a
// member. A group that differs in anything else is not touched.
func (k Client) RestoreGroup(id uint32, o Object, lost func(member uint32) bool) error {
	objects, err := k.Objects()
	if err != nil {
		return err
	}
	flags := unix.NLM_F_CREATE | unix.NLM_F_EXCL
	if now, ok := objects[id]; ok {
		if now.special || now.Members == nil {
			return ErrOther
		}
		if slices.Equal(now.Members, o.Members) {
			return nil
		}
		kept := slices.DeleteFunc(slices.Clone(o.Members), func(m Member) bool { return lost(m.ID) })
		if !slices.Equal(now.Members, kept) {
			return ErrOther
		}
		flags = unix.NLM_F_REPLACE
	}
	var members []byte
	for _, m := range o.Members {
		members = binary.NativeEndian.AppendUint32(members, m.ID)
		members = append(members, byte(m.Weight-1), byte((m.Weight-1)>>8), 0, 0)
	}
	req := k.change(unix.RTM_NEWNEXTHOP, flags)
	req.AddData(header(unix.AF_UNSPEC, o.Protocol, 0))
	req.AddData(nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(id)))
	req.AddData(nl.NewRtAttr(unix.NHA_GROUP, members))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set nexthop group %d: %w", id, err)
	}
	return nil
}

// AddRoute adds a unicast route by the nexthop object id. Of r it uses destination,
// preferred source, priority, metrics, table, protocol, scope and TOS.
func (k Client) AddRoute(family int, r *netlink.Route, id uint32) error {
	req := k.change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	ones, _ := r.Dst.Mask.Size()
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{
		Family: uint8(family), Dst_len: uint8(ones), Tos: uint8(r.Tos), Table: unix.RT_TABLE_UNSPEC, Protocol: uint8(r.Protocol),
		Scope: uint8(r.Scope), Type: unix.RTN_UNICAST,
	}})
	ip := r.Dst.IP.To4()
	if family == unix.AF_INET6 {
		ip = r.Dst.IP.To16()
	}
	req.AddData(nl.NewRtAttr(unix.RTA_DST, ip))
	req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(r.Table))))
	if len(r.Src) > 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, r.Src))
	}
	if r.Priority > 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(r.Priority))))
	}
	if metrics := metricsAttr(r); metrics != nil {
		req.AddData(metrics)
	}
	req.AddData(nl.NewRtAttr(rtaNHID, nl.Uint32Attr(id)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// message is a struct nhmsg.
type message []byte

func (m message) Len() int          { return len(m) }
func (m message) Serialize() []byte { return m }

func header(family uint8, protocol, flags int) message {
	m := make(message, sizeofNHMsg)
	m[0], m[offsetProtocol] = family, byte(protocol)
	binary.NativeEndian.PutUint32(m[offsetFlags:], uint32(flags))
	return m
}

// change returns a request that the kernel acknowledges.
func (k Client) change(kind, flags int) *nl.NetlinkRequest {
	req := k.request(kind)
	req.Flags = unix.NLM_F_REQUEST | unix.NLM_F_ACK | uint16(flags)
	return req
}
