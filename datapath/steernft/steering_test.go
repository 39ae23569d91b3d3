package steernft

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/tun"
)

var (
	clat6    = netip.MustParseAddr("2001:db8:1::c1a7")
	clat4    = netip.MustParseAddr("192.0.0.1")
	ours     = []netip.Prefix{netip.PrefixFrom(clat6, 128)}
	remote   = netip.MustParseAddr("64:ff9b::cb00:7109")
	default6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	router1  = netip.MustParseAddr("2001:db8:1::1")
	router2  = netip.MustParseAddr("2001:db8:1::2")
)

// net1 is a laptop with a TUN and an uplink to a link with two routers.
type net1 struct {
	laptop, lan *host
	tun         *tun.Device
	lanWire     *wire
	uplinkMAC   net.HardwareAddr
	lanMAC      net.HardwareAddr
	s           *Steering
}

func newNet(t *testing.T) *net1 {
	t.Helper()
	t.Parallel()
	n := &net1{laptop: newHost(t), lan: newHost(t)}
	connect(n.laptop, "wlan0", n.lan, "lan0")
	n.laptop.addr("wlan0", "2001:db8:1::10/64")
	n.laptop.addr("wlan0", clat6.String()+"/128")
	n.lan.addr("lan0", router1.String()+"/64")
	n.lan.addr("lan0", router2.String()+"/64")
	n.tun = n.laptop.tun("clat0")
	n.laptop.addr("clat0", clat4.String()+"/32")
	n.lanWire = n.lan.wire("lan0")
	n.uplinkMAC, n.lanMAC = n.laptop.link("wlan0").Attrs().HardwareAddr, n.lan.link("lan0").Attrs().HardwareAddr
	must(t, n.laptop.do(func() (err error) {
		n.s, err = New(Config{Uplink: n.laptop.index("wlan0"), TUN: n.tun.Index, Ours: ours})
		return err
	}))
	t.Cleanup(func() {
		if err := n.s.Close(); err != nil {
			t.Error(err)
		}
	})
	must(t, n.s.SetNextHops([]NextHop{{Prefix: default6, Via: router1}}))
	if n.s.noGuard != nil {
		t.Errorf("no guard: %v", n.s.noGuard)
	}
	return n
}

func (n *net1) counters(t *testing.T) Counters {
	t.Helper()
	c, err := n.s.Counters()
	must(t, err)
	return c
}

func has(text string) func([]byte) bool {
	return func(b []byte) bool { return bytes.Contains(b, []byte(text)) }
}

// What reaches the TUN: packets to our addresses on this link, with an Ethernet
// header that begins with 0, and nothing that the kernel has to answer.
func TestFromUplink(t *testing.T) {
	n := newNet(t)
	other := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	taken := ipv6(remote, clat6, unix.IPPROTO_UDP, udp("for the translator"))
	nd := func(typ byte) []byte {
		return ipv6(remote, clat6, unix.IPPROTO_ICMPV6, append([]byte{typ, 0, 0, 0}, "link control"...))
	}
	// IPv4 of the CLAT in an IPv6 frame, with the CLAT's IPv6 address where the
	// destination would be.
	dressed := bytes.Clone(taken)
	copy(dressed, []byte{0x45, 0, 0, byte(len(dressed)), 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 192, 0, 0, 1, 203, 0, 113, 9})
	short := append(dressed[:20:20], "for the translator"...)
	behindHeaders := ipv6(remote, clat6, 0, append([]byte{unix.IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0, 135, 0, 0, 0}, "link control"...))
	for _, c := range []struct {
		name   string
		frame  []byte
		header int // of the link, in front of the packet; 0: it does not come
	}{
		{"UDP", frame(n.uplinkMAC, n.lanMAC, -1, taken), 14},
		{"UDP with a priority tag", frame(n.uplinkMAC, n.lanMAC, 0xe000, taken), 18},
		{"UDP of VLAN 5", frame(n.uplinkMAC, n.lanMAC, 5, taken), 0},
		{"UDP to another station", frame(other, n.lanMAC, -1, taken), 0},
		{"UDP to the host's own address", frame(n.uplinkMAC, n.lanMAC, -1, ipv6(remote, netip.MustParseAddr("2001:db8:1::10"), unix.IPPROTO_UDP, udp("for the translator"))), 0},
		{"echo request", frame(n.uplinkMAC, n.lanMAC, -1, nd(128)), 14},
		{"packet too big", frame(n.uplinkMAC, n.lanMAC, -1, nd(2)), 14},
		{"MLD query", frame(n.uplinkMAC, n.lanMAC, -1, nd(130)), 0},
		{"router advertisement", frame(n.uplinkMAC, n.lanMAC, -1, nd(134)), 0},
		{"neighbour solicitation", frame(n.uplinkMAC, n.lanMAC, -1, nd(135)), 0},
		{"redirect", frame(n.uplinkMAC, n.lanMAC, -1, nd(137)), 0},
		{"MLDv2 report", frame(n.uplinkMAC, n.lanMAC, -1, nd(143)), 0},
		{"node information query", frame(n.uplinkMAC, n.lanMAC, -1, nd(139)), 14},
		{"solicitation behind a hop-by-hop header", frame(n.uplinkMAC, n.lanMAC, -1, behindHeaders), 0},
		{"any protocol", frame(n.uplinkMAC, n.lanMAC, -1, ipv6(remote, clat6, 50, []byte("for the translator"))), 14},
		{"first fragment", frame(n.uplinkMAC, n.lanMAC, -1, ipv6(remote, clat6, 44, append([]byte{17, 0, 0, 1, 0, 0, 0, 7}, udp("for the translator")...))), 14},
		{"IPv4 in an IPv6 frame", frame(n.uplinkMAC, n.lanMAC, -1, dressed), 0},
		{"IPv4 in an IPv6 frame, too short for an IPv6 header", frame(n.uplinkMAC, n.lanMAC, -1, short), 0},
		{"later fragment", frame(n.uplinkMAC, n.lanMAC, -1, ipv6(remote, clat6, 44, append([]byte{17, 0, 0, 8, 0, 0, 0, 7}, "for the translator"...))), 14},
	} {
		before := n.counters(t)
		n.lanWire.write(tun.VnetHeader{}, c.frame)
		// A frame that comes for sure, behind it: when that is there, the other is not to come.
		n.lanWire.write(tun.VnetHeader{}, frame(n.uplinkMAC, n.lanMAC, -1, ipv6(remote, clat6, unix.IPPROTO_UDP, udp("the end"))))
		var got []byte
		for {
			p, _ := read(t, n.tun, patience, func(b []byte) bool {
				return has("for the translator")(b) || has("link control")(b) || has("the end")(b)
			})
			if p == nil {
				t.Fatalf("%s: nothing comes", c.name)
			}
			if has("the end")(p) {
				break
			}
			got = p
		}
		switch {
		case c.header == 0 && got != nil:
			t.Errorf("%s: reaches the TUN: %x", c.name, got)
		case c.header != 0 && got == nil:
			t.Errorf("%s: does not reach the TUN", c.name)
		case got != nil && (got[0] != 0 || !bytes.HasSuffix(c.frame, got[c.header:])):
			t.Errorf("%s: reaches the TUN as %x", c.name, got)
		}
		after := n.counters(t)
		if in := after[SteeredIn] - before[SteeredIn]; (in == 2) != (c.header != 0) {
			t.Errorf("%s: steered in: %d", c.name, in)
		}
	}
	if c := n.counters(t); c[LeftToKernel] != 6 {
		t.Errorf("left to the kernel: %d, want 6", c[LeftToKernel])
	}
}

// What user space sends leaves by the next hop of its destination, and by none
// if its source is not ours.
func TestToUplink(t *testing.T) {
	n := newNet(t)
	onLink := netip.MustParseAddr("2001:db8:1::77")
	n.lan.addr("lan0", onLink.String()+"/64")
	// The two routers are one host: a MAC address of its own for each shows by
	// which the packet went.
	mac := map[netip.Addr]net.HardwareAddr{router1: {2, 0, 0, 0, 0, 1}, router2: {2, 0, 0, 0, 0, 2}, onLink: {2, 0, 0, 0, 0, 3}}
	for a, m := range mac {
		must(t, n.laptop.nl.NeighSet(&netlink.Neigh{LinkIndex: n.laptop.index("wlan0"), State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: m}))
	}
	connect(n.laptop, "eth1", n.lan, "lan1")
	beyond := netip.MustParseAddr("fe80::99")
	must(t, n.laptop.nl.NeighSet(&netlink.Neigh{LinkIndex: n.laptop.index("eth1"), State: netlink.NUD_PERMANENT, IP: beyond.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
	otherWire := n.lan.wire("lan1")
	vpn := n.laptop.tun("vpn0")
	must(t, n.s.SetNextHops([]NextHop{
		{Prefix: default6, Via: router1},
		{Prefix: netip.MustParsePrefix("64:ff9b::c0a8:0/112"), Link: n.laptop.index("eth1"), Via: beyond},
		{Prefix: netip.MustParsePrefix("64:ff9b::a00:0/104"), Link: vpn.Index},
		{Prefix: netip.MustParsePrefix("64:ff9b::cb00:7100/120"), Via: router2},
		{Prefix: netip.MustParsePrefix("64:ff9b::cb00:7164/128"), Reject: true},
		{Prefix: netip.MustParsePrefix("2001:db8:1::/64")},
	}))
	for _, c := range []struct {
		name     string
		src, dst netip.Addr
		via      netip.Addr // invalid: dropped
		count    Count
	}{
		{"default", clat6, netip.MustParseAddr("64:ff9b::c633:6407"), router1, SteeredOut},
		{"longer prefix", clat6, netip.MustParseAddr("64:ff9b::cb00:7109"), router2, SteeredOut},
		{"rejected", clat6, netip.MustParseAddr("64:ff9b::cb00:7164"), netip.Addr{}, Unroutable},
		{"on the link", clat6, onLink, onLink, SteeredOut},
		{"another source", netip.MustParseAddr("2001:db8:1::10"), remote, netip.Addr{}, ForeignSource},
	} {
		before := n.counters(t)
		write(t, n.tun, tun.VnetHeader{}, ipv6(c.src, c.dst, unix.IPPROTO_UDP, udp("out: "+c.name)))
		wait := patience
		if !c.via.IsValid() {
			wait = brief
		}
		f := n.lanWire.next(wait, has("out: "+c.name))
		switch {
		case !c.via.IsValid() && f != nil:
			t.Errorf("%s: left: %x", c.name, f)
		case c.via.IsValid() && f == nil:
			t.Errorf("%s: did not leave", c.name)
		case f != nil && !bytes.Equal(f[:6], mac[c.via]):
			t.Errorf("%s: left by %s, want %s", c.name, net.HardwareAddr(f[:6]), c.via)
		case f != nil && f[14+7] != 63:
			t.Errorf("%s: hop limit %d, want 63", c.name, f[14+7])
		}
		if after := n.counters(t); after[c.count] != before[c.count]+1 {
			t.Errorf("%s: %s went from %d to %d", c.name, c.count, before[c.count], after[c.count])
		}
	}
	// Other links, with a link header and without.
	write(t, n.tun, tun.VnetHeader{}, ipv6(clat6, netip.MustParseAddr("64:ff9b::c0a8:1"), unix.IPPROTO_UDP, udp("another link")))
	if f := otherWire.next(patience, has("another link")); f == nil || f[5] != 9 || f[14+7] != 63 {
		t.Errorf("by another link: %x", f)
	}
	for _, dst := range []string{"64:ff9b::a00:1", "64:ff9b::a00:2"} {
		write(t, n.tun, tun.VnetHeader{}, ipv6(clat6, netip.MustParseAddr(dst), unix.IPPROTO_UDP, udp("VPN "+dst)))
		if p, _ := read(t, vpn, patience, has("VPN "+dst)); p == nil || p[0] != 0x60 || p[7] != 63 {
			t.Errorf("by a link without header: %x", p)
		}
	}
	if ns, err := n.laptop.nl.NeighList(vpn.Index, netlink.FAMILY_V6); err != nil || len(ns) > 1 {
		t.Errorf("neighbours of a link without header: %v %v", ns, err)
	}
	// Suspended, nothing leaves, and what comes is the kernel's.
	must(t, n.s.Suspend())
	write(t, n.tun, tun.VnetHeader{}, ipv6(clat6, remote, unix.IPPROTO_UDP, udp("suspended")))
	if f := n.lanWire.next(brief, has("suspended")); f != nil {
		t.Errorf("left while suspended: %x", f)
	}
	must(t, n.s.SetOurs(ours))
	write(t, n.tun, tun.VnetHeader{}, ipv6(clat6, remote, unix.IPPROTO_UDP, udp("resumed")))
	if n.lanWire.next(patience, has("resumed")) == nil {
		t.Error("nothing leaves after SetOurs")
	}
}

// Routers are found by neighbour discovery.
func TestNeighbourIsResolved(t *testing.T) {
	n := newNet(t)
	write(t, n.tun, tun.VnetHeader{}, ipv6(clat6, remote, unix.IPPROTO_UDP, udp("to a new neighbour")))
	f := n.lanWire.next(patience, has("to a new neighbour"))
	if f == nil || !bytes.Equal(f[:6], n.lanMAC) {
		t.Errorf("arrived as %x", f)
	}
}

// Super-packets stay whole in both directions, with their checksum unfinished.
func TestSuperPackets(t *testing.T) {
	n := newNet(t)
	segment := append([]byte{0x10, 0, 0x10, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0}, bytes.Repeat([]byte("super-packet "), 1000)...)
	gso := tun.VnetHeader{Flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, GSOType: unix.VIRTIO_NET_HDR_GSO_TCPV6, HdrLen: 60, GSOSize: 1400, CsumStart: 40, CsumOffset: 16}
	shifted := gso
	shifted.HdrLen, shifted.CsumStart = gso.HdrLen+14, gso.CsumStart+14

	in := ipv6(remote, clat6, unix.IPPROTO_TCP, segment)
	n.lanWire.write(shifted, frame(n.uplinkMAC, n.lanMAC, -1, in))
	p, h := read(t, n.tun, patience, has("super-packet"))
	if len(p) != 14+len(in) || !bytes.Equal(p[14:], in) || h.CsumStart != 54 || h.GSOSize != 1400 || h.GSOType != unix.VIRTIO_NET_HDR_GSO_TCPV6 {
		t.Errorf("%d bytes came as %d, %+v", len(in), len(p), h)
	}
	out := ipv6(clat6, remote, unix.IPPROTO_TCP, segment)
	write(t, n.tun, gso, out)
	if f := n.lanWire.next(patience, has("super-packet")); len(f) != 14+len(out) {
		t.Errorf("%d bytes left in pieces; the first has %d", len(out), len(f))
	}
}

// On an uplink without link header packets have none on the TUN either, and
// keep their hop limit.
func TestUplinkWithoutLinkHeader(t *testing.T) {
	t.Parallel()
	laptop := newHost(t)
	wwan, clat := laptop.tun("wwan0"), laptop.tun("clat0")
	laptop.addr("wwan0", clat6.String()+"/128")
	var s *Steering
	must(t, laptop.do(func() (err error) {
		s, err = New(Config{Uplink: wwan.Index, TUN: clat.Index, Ours: ours})
		return err
	}))
	defer s.Close()
	if s.TakesHop() {
		t.Error("says that it takes a hop")
	}
	must(t, s.SetNextHops([]NextHop{{Prefix: default6, Via: router1}, {Prefix: netip.PrefixFrom(remote, 128), Reject: true}}))
	in := ipv6(remote, clat6, unix.IPPROTO_UDP, udp("downlink"))
	write(t, wwan, tun.VnetHeader{}, in)
	if p, _ := read(t, clat, patience, has("downlink")); !bytes.Equal(p, in) {
		t.Errorf("came as %x", p)
	}
	out := ipv6(clat6, remote.Next(), unix.IPPROTO_UDP, udp("uplink"))
	write(t, clat, tun.VnetHeader{}, ipv6(clat6, remote, unix.IPPROTO_UDP, udp("uplink, rejected")))
	write(t, clat, tun.VnetHeader{}, out)
	if p, _ := read(t, wwan, patience, has("uplink")); !bytes.Equal(p, out) {
		t.Errorf("left as %x", p)
	}
}

// A datagram in a broadcast frame is taken unless the host's sysctl says no.
func TestUnicastInBroadcastFrame(t *testing.T) {
	n := newNet(t)
	send := func(text string) []byte {
		n.lanWire.write(tun.VnetHeader{}, frame(net.HardwareAddr{255, 255, 255, 255, 255, 255}, n.lanMAC, -1, ipv6(remote, clat6, unix.IPPROTO_UDP, udp(text))))
		n.lanWire.write(tun.VnetHeader{}, frame(n.uplinkMAC, n.lanMAC, -1, ipv6(remote, clat6, unix.IPPROTO_UDP, udp("marker"))))
		p, _ := read(t, n.tun, patience, func(b []byte) bool { return has(text)(b) || has("marker")(b) })
		if has("marker")(p) {
			return nil
		}
		read(t, n.tun, patience, has("marker"))
		return p
	}
	if send("taken") == nil {
		t.Error("not taken")
	}
	must(t, n.s.SetDropUnicastToMany(true))
	if p := send("dropped"); p != nil {
		t.Errorf("taken: %x", p)
	}
	if c := n.counters(t); c[UnicastToMany] != 1 {
		t.Errorf("counters %v", c)
	}
}

// Local programs cannot send from the CLAT's addresses by the uplink, and the
// link sends no IPv4 to them.
func TestGuardOfUplink(t *testing.T) {
	n := newNet(t)
	must(t, n.s.SetGuarded([]netip.Addr{clat4}, ours))
	n.laptop.addr("wlan0", "198.51.100.1/24")
	n.lan.addr("lan0", "198.51.100.2/24")
	send := func(network, from, to string) error {
		return n.laptop.do(func() error {
			a, err := net.ResolveUDPAddr(network, from)
			must(t, err)
			b, err := net.ResolveUDPAddr(network, to)
			must(t, err)
			c, err := net.DialUDP(network, a, b)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("from " + from))
			return err
		})
	}
	for _, c := range []struct {
		network, from, to string
		dropped           bool
		count             Count
	}{
		{"udp6", "[" + clat6.String() + "]:0", "[" + router1.String() + "]:9", true, BoundSource},
		{"udp6", "[2001:db8:1::10]:0", "[" + router1.String() + "]:9", false, 0},
		{"udp4", clat4.String() + ":0", "198.51.100.2:9", true, UntranslatedIPv4},
		{"udp4", "198.51.100.1:0", "198.51.100.2:9", false, 0},
	} {
		before := n.counters(t)
		err := send(c.network, c.from, c.to)
		if errors.Is(err, unix.EPERM) != c.dropped {
			t.Errorf("from %s: %v", c.from, err)
		}
		wait := patience
		if c.dropped {
			wait = brief
		}
		if f := n.lanWire.next(wait, has("from "+c.from)); (f == nil) != c.dropped {
			t.Errorf("from %s: left as %x", c.from, f)
		}
		if after := n.counters(t); c.dropped && after[c.count] == before[c.count] {
			t.Errorf("from %s: %s stays %d", c.from, c.count, after[c.count])
		}
	}
	// The kernel still speaks for the address in neighbour discovery.
	must(t, n.lan.do(func() error {
		c, err := net.Dial("udp6", "["+clat6.String()+"]:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("who are you"))
		return err
	}))
	if p, _ := read(t, n.tun, patience, has("who are you")); p == nil {
		t.Error("nobody answers solicitations for the CLAT address")
	}
}

// The tables are the process's own: other programs cannot change them, and they
// go with its socket.
func TestTablesAreOwned(t *testing.T) {
	n := newNet(t)
	if !n.s.table.owned {
		t.Skip("needs Linux 5.12: NFT_TABLE_F_OWNER")
	}
	must(t, n.laptop.do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.Close()
		other := table{conn: c, family: n.s.table.family, name: n.s.table.name}
		if err := other.remove(); !errors.Is(err, unix.EPERM) {
			t.Errorf("another socket removes the table: %v, want EPERM", err)
		}
		if err := CleanUp(); !errors.Is(err, unix.EPERM) {
			t.Errorf("clean-up of tables in use: %v, want EPERM", err)
		}
		return nil
	}))
	if _, err := exec.LookPath("nft"); err == nil {
		must(t, n.laptop.do(func() error { return exec.Command("nft", "flush", "ruleset").Run() }))
	}
	if !n.s.Intact() {
		t.Error("not intact after nft flush ruleset")
	}
	// As a kill does.
	must(t, n.s.conn.Close())
	*n.s = Steering{}
	if got := n.laptop.tables(); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// tables are the names of the tables in the namespace.
func (h *host) tables() string {
	h.t.Helper()
	var names []string
	must(h.t, h.do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.Close()
		for _, family := range []uint8{unix.NFPROTO_NETDEV, unix.NFPROTO_INET} {
			err := c.get(message{"list the tables", unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, family, nil}, func(b []byte) {
				each(b, func(typ uint16, data []byte) {
					if typ == unix.NFTA_TABLE_NAME {
						names = append(names, unix.ByteSliceToString(data))
					}
				})
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	return strings.Join(names, " ")
}

// Before Linux 5.12 tables have no owner: others may empty them, which shows,
// and the next start removes them.
func TestTablesWithoutOwner(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	must(t, h.do(func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		tb := &table{conn: c, family: unix.NFPROTO_INET, name: prefix + "test"}
		if err := tb.tryCreate(0, []Count{SteeredIn}, []chain{{name: "a"}, {name: "b"}}); err != nil {
			return err
		}
		r := newRuleset(nil, "a", "b")
		r.add("b", count(SteeredIn), drop())
		r.addGoto("a", "b")
		if err := tb.replace(r); err != nil {
			return err
		}
		if !tb.intact() {
			t.Error("not intact")
		}
		if err := tb.conn.commit([]message{{"empty", unix.NFT_MSG_DELRULE, 0, tb.family, attributes(nil).text(unix.NFTA_RULE_TABLE, tb.name)}}); err != nil {
			return err
		}
		if tb.intact() {
			t.Error("intact without its rules")
		}
		return c.Close() // as a kill does
	}))
	if got := h.tables(); got != prefix+"test" {
		t.Errorf("tables %q", got)
	}
	must(t, h.do(CleanUp))
	if got := h.tables(); got != "" {
		t.Errorf("left behind: %s", got)
	}
	must(t, h.do(CleanUp))
}

// A start that fails leaves nothing.
func TestNewFails(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := h.tun("clat0")
	must(t, h.do(func() error {
		if _, err := New(Config{Uplink: 4711, TUN: d.Index, Ours: ours}); err == nil {
			t.Error("no error without an uplink")
		}
		if _, err := New(Config{Uplink: 1, TUN: d.Index, Ours: ours}); err == nil {
			t.Error("no error for an uplink of a strange kind")
		}
		return nil
	}))
	connect(h, "wlan0", h, "lan0")
	must(t, h.do(func() error {
		_, err := New(Config{Uplink: h.index("wlan0"), TUN: d.Index, Ours: []netip.Prefix{netip.MustParsePrefix("fe80::/10")}})
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("link-local addresses are steered: %v", err)
		}
		return nil
	}))
	if got := h.tables(); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// Many next hops take more than one message.
func TestManyNextHops(t *testing.T) {
	n := newNet(t)
	var hops []NextHop
	a := netip.MustParseAddr("64:ff9b::a00:1")
	for range 1024 {
		hops = append(hops, NextHop{Prefix: netip.PrefixFrom(a, 128), Via: router2})
		a = a.Next().Next()
	}
	must(t, n.s.SetNextHops(append(hops, NextHop{Prefix: default6, Via: router1})))
	start := time.Now()
	must(t, n.s.SetNextHops(hops))
	t.Logf("they took %s", time.Since(start))
	if !n.s.Intact() {
		t.Error("not intact")
	}
}

// TestNameOwnedByAnother has other processes own tables with our names.
func TestNameOwnedByAnother(t *testing.T) {
	h := newHost(t)
	must(t, h.do(func() error {
		const family = unix.NFPROTO_INET
		var others []*conn
		for _, name := range []string{prefix + "guard-1", prefix + "guard-1-2"} {
			c, err := dial()
			if err != nil {
				return err
			}
			defer c.Close()
			others = append(others, c)
			if err := (&table{conn: c, family: family, name: name}).tryCreate(tableOwner, nil, nil); errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("this kernel knows no owners of tables")
			} else if err != nil {
				return err
			}
		}
		g, err := NewGuard(GuardConfig{Link: 1})
		if err != nil {
			return err
		}
		if g.table.name != prefix+"guard-1-3" || !g.Intact() {
			t.Errorf("the table is %s", g.table.name)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		for i, name := range []string{prefix + "guard-1", prefix + "guard-1-2"} {
			if err := (&table{conn: others[i], family: family, name: name}).remove(); err != nil {
				t.Errorf("the table %s of another process: %v", name, err)
			}
		}
		return nil
	}))
}
