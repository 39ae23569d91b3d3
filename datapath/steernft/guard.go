package steernft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// GuardConfig says what must not leave by a link.
type GuardConfig struct {
	Link int            // ifindex
	IPv4 []netip.Addr   // untranslated, from these
	IPv6 []netip.Prefix // from these, but neighbour discovery and MLD
}

// Guard drops packets of the host, and those that it routes, that would leave a
// link though they belong to a CLAT: IPv4 that nobody has translated, and IPv6
// from the CLAT address that did not come from the TUN. What a [Steering]
// sends does not pass it. It also drops IPv4 to a CLAT's address that comes by the
// link.
type Guard struct {
	conn  *conn // nil: that of a Steering, which closes it
	table table
	cfg   GuardConfig
}

const (
	chainLeaves = "leaves"
	chainComes  = "comes"
)

// raw is before connection tracking (NF_IP_PRI_RAW).
const raw = -300

// afterNAT is behind the masquerading of guests (NF_IP_PRI_NAT_SRC, 100).
const afterNAT = 300

// NewGuard makes the table. The error is an [*Error].
func NewGuard(cfg GuardConfig) (*Guard, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	g, err := newGuard(c, cfg)
	if err != nil {
		c.Close()
		return nil, err
	}
	g.conn = c
	return g, nil
}

func newGuard(c *conn, cfg GuardConfig) (*Guard, error) {
	g := &Guard{cfg: cfg}
	g.table = table{conn: c, family: unix.NFPROTO_INET, name: fmt.Sprintf("%sguard-%d", prefix, cfg.Link)}
	err := g.table.create([]Count{UntranslatedIPv4, BoundSource, StrayIPv4},
		chain{name: chainLeaves, hooked: true, hook: unix.NF_INET_POST_ROUTING, priority: afterNAT},
		chain{name: chainComes, hooked: true, hook: unix.NF_INET_PRE_ROUTING, priority: raw})
	if err != nil {
		return nil, err
	}
	if err := g.apply(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// SetGuarded replaces the addresses. On an error nothing has changed.
func (g *Guard) SetGuarded(ipv4 []netip.Addr, ipv6 []netip.Prefix) error {
	old := g.cfg
	g.cfg = GuardConfig{g.cfg.Link, slices.Clone(ipv4), slices.Clone(ipv6)}
	if err := g.apply(); err != nil {
		g.cfg = old
		return err
	}
	return nil
}

func (g *Guard) apply() error {
	r := newRuleset(&g.table, chainLeaves, chainComes)
	link := binary.NativeEndian.AppendUint32(nil, uint32(g.cfg.Link))
	r.add(chainLeaves, meta(unix.NFT_META_OIF), compare(neq, link), accept())
	r.add(chainComes, meta(unix.NFT_META_IIF), compare(neq, link), accept())
	for _, a := range g.cfg.IPv4 {
		if a.Is4() {
			r.add(chainLeaves, meta(unix.NFT_META_NFPROTO), compare(eq, []byte{unix.NFPROTO_IPV4}), load(network, 12, 4), compare(eq, a.AsSlice()), count(UntranslatedIPv4), drop())
			r.add(chainComes, meta(unix.NFT_META_NFPROTO), compare(eq, []byte{unix.NFPROTO_IPV4}), load(network, 16, 4), compare(eq, a.AsSlice()), count(StrayIPv4), drop())
		}
	}
	if len(g.cfg.IPv6) > 0 {
		ours := r.newSet(prefixSpans(g.cfg.IPv6), false)
		r.add(chainLeaves, meta(unix.NFT_META_NFPROTO), compare(neq, []byte{unix.NFPROTO_IPV6}), accept())
		r.add(chainLeaves, load(network, ip6Source, 16), isIn(ours, false), accept())
		linkControl(r, chainLeaves, accept())
		r.add(chainLeaves, count(BoundSource), drop())
	}
	return g.table.replace(r)
}

// Intact reports whether the rules are as they were made.
func (g *Guard) Intact() bool { return g.table.intact() }

// Counters reads the counters.
func (g *Guard) Counters() (Counters, error) {
	c, err := g.table.counters()
	return c, err
}

// Close removes the table. It may be called twice.
func (g *Guard) Close() error {
	if g.table.uses == nil {
		return nil
	}
	err := g.table.remove()
	g.table.uses = nil
	if g.conn != nil {
		err = errors.Join(err, g.conn.Close())
	}
	return err
}
