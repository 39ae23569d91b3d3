package nat44

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Session is a connection of a client that connection tracking has begun or ended
// (RFC 6888 section 4).
type Session struct {
	Ended    bool
	Protocol uint8          // IP protocol number
	Inside   netip.AddrPort // the client by its address of the pool; port 0 where the protocol has none
	Outside  netip.AddrPort // as the remote host sees it
	Remote   netip.AddrPort
}

// Attributes of include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig, ctaTupleReply  = 1, 2
	ctaTupleIP, ctaTupleProto    = 1, 2
	ctaIPv4Source, ctaIPv4Dest   = 1, 2
	ctaProtoNumber               = 1
	ctaProtoSource, ctaProtoDest = 2, 3
	messageNew, messageDelete    = 0, 2
	groupNew, groupDestroy       = 1, 3
	sessionsBuffer               = 4 << 20
	nfgenmsgLen                  = 4
)

// WatchSessions calls see for every connection from the pool that begins or ends,
// until ctx ends. lost is called when the kernel had more to say than was read.
func WatchSessions(ctx context.Context, pool netip.Prefix, see func(Session), lost func()) error {
	c, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("conntrack events: %w", err)
	}
	defer c.Close()
	_ = c.SetReadBuffer(sessionsBuffer)
	for _, g := range []uint32{groupNew, groupDestroy} {
		if err := c.JoinGroup(g); err != nil {
			return fmt.Errorf("conntrack events: %w", err)
		}
	}
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	for {
		messages, err := c.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			lost()
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("conntrack events: %w", err)
		}
		for _, m := range messages {
			if s, ok := parseSession(m); ok && pool.Contains(s.Inside.Addr()) {
				see(s)
			}
		}
	}
}

// parseSession reads an event about an IPv4 connection.
func parseSession(m mdnetlink.Message) (s Session, ok bool) {
	typ := uint16(m.Header.Type)
	if typ>>8 != unix.NFNL_SUBSYS_CTNETLINK || len(m.Data) < nfgenmsgLen || m.Data[0] != unix.AF_INET {
		return s, false
	}
	switch typ & 0xff {
	case messageNew:
	case messageDelete:
		s.Ended = true
	default:
		return s, false
	}
	var orig, reply tuple
	ad, err := mdnetlink.NewAttributeDecoder(m.Data[nfgenmsgLen:])
	if err != nil {
		return s, false
	}
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleOrig:
			ad.Nested(orig.decode)
		case ctaTupleReply:
			ad.Nested(reply.decode)
		}
	}
	if ad.Err() != nil || !orig.source.IsValid() || !reply.dest.IsValid() {
		return s, false
	}
	s.Protocol = orig.protocol
	s.Inside = netip.AddrPortFrom(orig.source, orig.sourcePort)
	s.Remote = netip.AddrPortFrom(orig.dest, orig.destPort)
	s.Outside = netip.AddrPortFrom(reply.dest, reply.destPort)
	return s, true
}

// tuple is one direction of a connection.
type tuple struct {
	protocol             uint8
	source, dest         netip.Addr
	sourcePort, destPort uint16
}

func (t *tuple) decode(ad *mdnetlink.AttributeDecoder) error {
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleIP:
			ad.Nested(func(ad *mdnetlink.AttributeDecoder) error {
				for ad.Next() {
					a, _ := netip.AddrFromSlice(ad.Bytes())
					switch ad.Type() {
					case ctaIPv4Source:
						t.source = a
					case ctaIPv4Dest:
						t.dest = a
					}
				}
				return nil
			})
		case ctaTupleProto:
			ad.Nested(func(ad *mdnetlink.AttributeDecoder) error {
				for ad.Next() {
					b := ad.Bytes()
					switch {
					case ad.Type() == ctaProtoNumber && len(b) == 1:
						t.protocol = b[0]
					case ad.Type() == ctaProtoSource && len(b) == 2:
						t.sourcePort = uint16(b[0])<<8 | uint16(b[1])
					case ad.Type() == ctaProtoDest && len(b) == 2:
						t.destPort = uint16(b[0])<<8 | uint16(b[1])
					}
				}
				return nil
			})
		}
	}
	return nil
}
