package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv6"
)

// advertInterval is how often an unsolicited RA is sent. Short, so that a
// laptop that missed one does not keep a test waiting.
const advertInterval = 10 * time.Second

// Advertiser is a router as the laptop hears it: the sender of Router
// Advertisements from one link-local address. It answers solicitations and
// advertises now and then, while the laptop's link is up.
type Advertiser struct {
	network *Network
	local   netip.Addr
	mac     net.HardwareAddr

	mu        sync.Mutex
	advert    Advert
	message   []byte // advert on the wire
	silent    bool
	conn      *advertConn // nil while the link is down
	solicited int
}

// advertConn is an advertiser's socket for as long as the link is up.
type advertConn struct {
	raw  net.PacketConn
	zone string // of lan, as a number: names mean nothing outside the namespace
	done chan struct{}
}

// turnOn opens the socket, advertises once and goes on with that.
func (a *Advertiser) turnOn() error {
	if err := a.network.Router.address(lan, a.local, 64); err != nil {
		return err
	}
	conn, err := newAdvertConn(a.network.Router, a.local)
	if err != nil {
		return err
	}
	a.mu.Lock()
	old := a.conn
	a.conn = conn
	a.mu.Unlock()
	if old != nil { // the link was up already
		old.close()
	}
	a.network.lab.running.Go(func() { a.advertise(conn) })
	return a.sendAdvert()
}

// turnOff closes the socket.
func (a *Advertiser) turnOff() {
	a.mu.Lock()
	conn := a.conn
	a.conn = nil
	a.mu.Unlock()
	if conn != nil {
		conn.close()
	}
}

// close ends advertise. The owner, who took it out of the Advertiser, calls it.
func (c *advertConn) close() {
	close(c.done)
	c.raw.Close()
}

func newAdvertConn(router *Host, local netip.Addr) (*advertConn, error) {
	link, err := router.Netlink.LinkByName(lan)
	if err != nil {
		return nil, fmt.Errorf("router advertisements: %w", err)
	}
	c := &advertConn{zone: fmt.Sprint(link.Attrs().Index), done: make(chan struct{})}
	err = router.Do(func() error {
		c.raw, err = net.ListenPacket("ip6:ipv6-icmp", local.WithZone(c.zone).String())
		if err != nil {
			return err
		}
		conn := ipv6.NewPacketConn(c.raw)
		var solicitations ipv6.ICMPFilter
		solicitations.SetAll(true)
		solicitations.Accept(ipv6.ICMPTypeRouterSolicitation)
		ifi := &net.Interface{Index: link.Attrs().Index}
		return errors.Join(
			conn.SetICMPFilter(&solicitations),
			conn.SetMulticastHopLimit(255), // RFC 4861 section 6.1.2
			conn.SetMulticastInterface(ifi),
			conn.JoinGroup(ifi, &net.IPAddr{IP: net.IPv6linklocalallrouters}),
		)
	})
	if err != nil {
		if c.raw != nil {
			c.raw.Close()
		}
		return nil, fmt.Errorf("router advertisements: %w", err)
	}
	return c, nil
}

// advertise answers Router Solicitations and advertises now and then, until
// conn is closed. A message that cannot be sent (the link is down) is not
// missed: the next comes soon.
func (a *Advertiser) advertise(conn *advertConn) {
	a.network.lab.running.Go(func() {
		for {
			select {
			case <-conn.done:
				return
			case <-time.After(advertInterval):
				a.sendAdvert()
			}
		}
	})
	buf := make([]byte, 1500)
	for {
		if _, _, err := conn.raw.ReadFrom(buf); err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		a.mu.Lock()
		a.solicited++
		a.mu.Unlock()
		a.sendAdvert()
	}
}

// sendAdvert sends the current Advert, if any.
func (a *Advertiser) sendAdvert() error {
	a.mu.Lock()
	message, silent := a.message, a.silent
	a.mu.Unlock()
	if silent || message == nil {
		return nil
	}
	return a.SendRA(message)
}

// Advert returns what the router advertises at present.
func (a *Advertiser) Advert() Advert {
	a.mu.Lock()
	defer a.mu.Unlock()
	advert := a.advert
	advert.PREF64, advert.RDNSS = slices.Clone(advert.PREF64), slices.Clone(advert.RDNSS)
	advert.MorePrefixes = slices.Clone(advert.MorePrefixes)
	return advert
}

// SetAdvert changes what the router advertises and sends it at once. The
// router gets an address in every prefix it advertises. The PLAT is not
// touched: see SetPREF64.
func (a *Advertiser) SetAdvert(advert Advert) error {
	if advert.Source == nil {
		advert.Source = a.mac
	}
	message, err := advert.Encode()
	if err != nil {
		return fmt.Errorf("router advertisement: %w", err)
	}
	var prefixes []netip.Prefix
	if advert.Prefix.IsValid() {
		prefixes = append(prefixes, advert.Prefix)
	}
	for _, p := range advert.MorePrefixes {
		prefixes = append(prefixes, p.Prefix)
	}
	for _, p := range prefixes {
		if err := a.network.addPrefix(p); err != nil {
			return fmt.Errorf("router advertisement: %w", err)
		}
	}
	a.mu.Lock()
	a.advert, a.message = advert, message
	a.mu.Unlock()
	return a.sendAdvert()
}

// Silence stops the router's advertisements, also those that answer a
// solicitation, or lets them go on.
func (a *Advertiser) Silence(on bool) {
	a.mu.Lock()
	a.silent = on
	a.mu.Unlock()
}

// Solicited returns how many Router Solicitations have come so far.
func (a *Advertiser) Solicited() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.solicited
}

// SendRA multicasts any ICMPv6 message from the router to the laptop's link,
// well-formed or not; the kernel fills in the checksum. While the link is down
// nothing is sent.
func (a *Advertiser) SendRA(message []byte) error {
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	if conn == nil {
		return nil
	}
	_, err := conn.raw.WriteTo(message, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: conn.zone})
	return err
}

// Renumber moves the link to another /64: it is advertised from now on, and
// the old one is deprecated, to vanish in two hours (RFC 4192 section 2.3;
// RFC 4862 section 5.5.3 allows no less).
func (a *Advertiser) Renumber(to netip.Prefix) error {
	advert := a.Advert()
	for i := range advert.MorePrefixes {
		advert.MorePrefixes[i].Preferred = 0
	}
	advert.MorePrefixes = append(advert.MorePrefixes, AdvertPrefix{advert.Prefix, 2 * time.Hour, 0})
	advert.Prefix = to
	return a.SetAdvert(advert)
}
