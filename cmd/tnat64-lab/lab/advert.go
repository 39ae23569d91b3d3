package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

// Advert is what the router's Router Advertisements say (RFC 4861 section
// 4.2). Lifetimes of 0 withdraw.
type Advert struct {
	RouterLifetime time.Duration
	Prefix         netip.Prefix // on-link and autonomous, with these lifetimes
	Valid          time.Duration
	Preferred      time.Duration
	PREF64         []PREF64
	MTU            int // 0: no MTU option
	RDNSS          []netip.Addr
}

// PREF64 is a PREF64 option (RFC 8781 section 4). The lifetime is sent in
// units of 8 seconds, at most 65528 s.
type PREF64 struct {
	Prefix   netip.Prefix
	Lifetime time.Duration
}

// Encode returns the Router Advertisement as an ICMPv6 message whose checksum
// is left to the kernel; options of any kind may be appended for SendRA.
func (a Advert) Encode() ([]byte, error) {
	ra := &ndp.RouterAdvertisement{CurrentHopLimit: 64, RouterLifetime: a.RouterLifetime}
	ra.Options = append(ra.Options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: hardwareAddr(0x01)})
	if a.Prefix.IsValid() {
		ra.Options = append(ra.Options, &ndp.PrefixInformation{
			PrefixLength: uint8(a.Prefix.Bits()), Prefix: a.Prefix.Addr(),
			OnLink: true, AutonomousAddressConfiguration: true,
			ValidLifetime: a.Valid, PreferredLifetime: a.Preferred,
		})
	}
	if a.MTU != 0 {
		ra.Options = append(ra.Options, ndp.NewMTU(uint32(a.MTU)))
	}
	if len(a.RDNSS) > 0 {
		ra.Options = append(ra.Options, &ndp.RecursiveDNSServer{Lifetime: a.RouterLifetime, Servers: a.RDNSS})
	}
	for _, p := range a.PREF64 {
		ra.Options = append(ra.Options, &ndp.PREF64{Prefix: p.Prefix, Lifetime: p.Lifetime})
	}
	return ndp.MarshalMessage(ra)
}

// advertInterval is how often an unsolicited RA is sent. Short, so that a
// laptop that missed one does not keep a test waiting.
const advertInterval = 10 * time.Second

// advertiser is the router's RA daemon.
type advertiser struct {
	conn *ipv6.PacketConn
	raw  net.PacketConn
	zone string // of lan, as a number: names mean nothing outside the namespace
}

func newAdvertiser(router *Host) (*advertiser, error) {
	link, err := router.Netlink.LinkByName(lan)
	if err != nil {
		return nil, fmt.Errorf("router advertisements: %w", err)
	}
	a := &advertiser{zone: fmt.Sprint(link.Attrs().Index)}
	err = router.Do(func() error {
		a.raw, err = net.ListenPacket("ip6:ipv6-icmp", RouterLocal.WithZone(a.zone).String())
		if err != nil {
			return err
		}
		a.conn = ipv6.NewPacketConn(a.raw)
		var solicitations ipv6.ICMPFilter
		solicitations.SetAll(true)
		solicitations.Accept(ipv6.ICMPTypeRouterSolicitation)
		ifi := &net.Interface{Index: link.Attrs().Index}
		return errors.Join(
			a.conn.SetICMPFilter(&solicitations),
			a.conn.SetMulticastHopLimit(255), // RFC 4861 section 6.1.2
			a.conn.SetMulticastInterface(ifi),
			a.conn.JoinGroup(ifi, &net.IPAddr{IP: net.IPv6linklocalallrouters}),
		)
	})
	if err != nil {
		if a.raw != nil {
			a.raw.Close()
		}
		return nil, fmt.Errorf("router advertisements: %w", err)
	}
	return a, nil
}

// send multicasts an ICMPv6 message to all nodes of the laptop's link.
func (a *advertiser) send(message []byte) error {
	_, err := a.raw.WriteTo(message, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: a.zone})
	return err
}

// advertise answers Router Solicitations and advertises now and then, until ctx
// ends. A message that cannot be sent (the link is down) is not missed: the
// next comes soon.
func (l *Lab) advertise(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { l.adverts.raw.Close() })
	defer stop()
	l.running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(advertInterval):
				l.sendAdvert()
			}
		}
	})
	buf := make([]byte, 1500)
	for {
		if _, _, err := l.adverts.raw.ReadFrom(buf); err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		l.sendAdvert()
	}
}

// sendAdvert sends the current Advert, if any.
func (l *Lab) sendAdvert() error {
	l.mu.Lock()
	message, silent := l.message, l.silent
	l.mu.Unlock()
	if silent {
		return nil
	}
	return l.adverts.send(message)
}

// Advert returns what the router advertises at present.
func (l *Lab) Advert() Advert {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.advert
	a.PREF64, a.RDNSS = slices.Clone(a.PREF64), slices.Clone(a.RDNSS)
	return a
}

// SetAdvert changes what the router advertises and sends it at once. It does
// not touch the PLAT: see SetPREF64.
func (l *Lab) SetAdvert(a Advert) error {
	message, err := a.Encode()
	if err != nil {
		return fmt.Errorf("router advertisement: %w", err)
	}
	l.mu.Lock()
	l.advert, l.message = a, message
	l.mu.Unlock()
	return l.sendAdvert()
}

// Silence stops the router's advertisements, also those that answer a
// solicitation, or lets them go on.
func (l *Lab) Silence(on bool) {
	l.mu.Lock()
	l.silent = on
	l.mu.Unlock()
}

// SendRA multicasts any ICMPv6 message from the router to the laptop's link,
// well-formed or not; the kernel fills in the checksum.
func (l *Lab) SendRA(message []byte) error { return l.adverts.send(message) }

// SetPREF64 moves the network to another PREF64: the PLAT translates it
// instead of the old one, and the same RA withdraws the old one (RFC 8781
// section 4: lifetime 0) and announces the new one.
func (l *Lab) SetPREF64(p netip.Prefix) error {
	if err := checkPREF64(p); err != nil {
		return err
	}
	l.mu.Lock()
	old := l.pref64
	l.pref64 = p
	l.mu.Unlock()
	if p == old {
		return nil
	}
	a := l.Advert()
	a.PREF64 = []PREF64{{p, l.options.PREF64Lifetime}, {old, 0}}
	return steps(
		func() error { return l.unroutePREF64(old) },
		func() error { return l.routePREF64(p) },
		func() error { return l.plat.setPREF64(p) },
		func() error { return l.SetAdvert(a) },
	)
}

// WithdrawPREF64 tells the laptop that PREF64 is gone. The PLAT stays, and
// SetPREF64 or SetAdvert brings it back.
func (l *Lab) WithdrawPREF64() error {
	a := l.Advert()
	for i := range a.PREF64 {
		a.PREF64[i].Lifetime = 0
	}
	return l.SetAdvert(a)
}

// PREF64 returns the prefix that the PLAT translates.
func (l *Lab) PREF64() netip.Prefix {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pref64
}
