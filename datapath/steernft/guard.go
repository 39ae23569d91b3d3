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
// sends does not pass it.
type Guard struct {
	conn  *conn // nil: that of a Steering, which closes it
	table table
	cfg   GuardConfig
}

const chainLeaves = "leaves"

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
	err := g.table.create([]Count{LeakedIPv4, LeakedIPv6},
		chain{name: chainLeaves, hooked: true, hook: unix.NF_INET_POST_ROUTING, priority: afterNAT})
	if err != nil {
		return nil, err
	}
	if err := g.apply(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// SetIPv4 replaces the IPv4 addresses. On an error nothing has changed.
func (g *Guard) SetIPv4(addrs ...netip.Addr) error {
	return g.set(GuardConfig{g.cfg.Link, slices.Clone(addrs), g.cfg.IPv6})
}

// SetIPv6 replaces the IPv6 prefixes. On an error nothing has changed.
func (g *Guard) SetIPv6(prefixes []netip.Prefix) error {
	return g.set(GuardConfig{g.cfg.Link, g.cfg.IPv4, slices.Clone(prefixes)})
}

func (g *Guard) set(cfg GuardConfig) error {
	old := g.cfg
	g.cfg = cfg
	if err := g.apply(); err != nil {
		g.cfg = old
		return err
	}
	return nil
}

func (g *Guard) apply() error {
	r := newRuleset(chainLeaves)
	r.add(chainLeaves, meta(unix.NFT_META_OIF), compare(neq, binary.NativeEndian.AppendUint32(nil, uint32(g.cfg.Link))), accept())
	for _, a := range g.cfg.IPv4 {
		if a.Is4() {
			r.add(chainLeaves, meta(unix.NFT_META_NFPROTO), compare(eq, []byte{unix.NFPROTO_IPV4}), load(network, 12, 4), compare(eq, a.AsSlice()), count(LeakedIPv4), drop())
		}
	}
	if len(g.cfg.IPv6) > 0 {
		ours := g.table.newSet(prefixSpans(g.cfg.IPv6), false)
		r.sets = append(r.sets, ours)
		r.add(chainLeaves, meta(unix.NFT_META_NFPROTO), compare(neq, []byte{unix.NFPROTO_IPV6}), accept())
		r.add(chainLeaves, load(network, ip6Source, 16), isIn(ours, false), accept())
		linkControl(r, chainLeaves, accept())
		r.add(chainLeaves, count(LeakedIPv6), drop())
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
