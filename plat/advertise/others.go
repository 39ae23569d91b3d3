package advertise

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/ndp"
)

// disagreements says in what an advertisement of another router differs from
// ours where RFC 4861 section 6.2.7 wants them equal, and in its PREF64. Each
// is a sentence that is the same for the same disagreement.
func disagreements(ours, theirs *ndp.RouterAdvertisement) (all []string) {
	differ := func(what string, a, b any) {
		if len(all) < maxDisagreements {
			all = append(all, fmt.Sprintf("its %s is %v, ours %v", what, b, a))
		}
	}
	// 0 means unspecified.
	if a, b := ours.CurrentHopLimit, theirs.CurrentHopLimit; a != b && a != 0 && b != 0 {
		differ("hop limit", a, b)
	}
	if a, b := ours.ManagedConfiguration, theirs.ManagedConfiguration; a != b {
		differ("M flag", a, b)
	}
	if a, b := ours.OtherConfiguration, theirs.OtherConfiguration; a != b {
		differ("O flag", a, b)
	}
	if a, b := ours.ReachableTime, theirs.ReachableTime; a != b && a != 0 && b != 0 {
		differ("reachable time", a, b)
	}
	if a, b := ours.RetransmitTimer, theirs.RetransmitTimer; a != b && a != 0 && b != 0 {
		differ("retransmission timer", a, b)
	}
	a, b := contentOf(ours), contentOf(theirs)
	if a.mtu != b.mtu && a.mtu != 0 && b.mtu != 0 {
		differ("MTU", a.mtu, b.mtu)
	}
	for _, p := range a.prefixes {
		i := slices.IndexFunc(b.prefixes, func(q prefix) bool { return q.Prefix == p.Prefix })
		if i < 0 {
			continue // other prefixes on the link are no disagreement
		}
		// They "should not differ", but may be counted down in real time.
		if q := b.prefixes[i]; q.preferred > p.preferred || q.valid > p.valid || q.preferred == 0 {
			differ(fmt.Sprintf("lifetimes of %v (preferred, valid)", p.Prefix), fmt.Sprintf("%v, %v", p.preferred, p.valid), fmt.Sprintf("%v, %v", q.preferred, q.valid))
		}
	}
	for _, p := range b.pref64 {
		if len(a.pref64) > 0 && !slices.Contains(a.pref64, p) {
			differ("PREF64", a.pref64[0], p)
		}
	}
	return all
}

// content is what the options of an advertisement say.
type content struct {
	mtu      uint32
	prefixes []prefix
	pref64   []netip.Prefix
}

type prefix struct {
	netip.Prefix
	preferred, valid time.Duration
}

func contentOf(m *ndp.RouterAdvertisement) (c content) {
	for _, o := range m.Options {
		switch o := o.(type) {
		case *ndp.MTU:
			c.mtu = o.MTU
		case *ndp.PrefixInformation:
			p := netip.PrefixFrom(o.Prefix, int(o.PrefixLength)).Masked()
			if p.IsValid() {
				c.prefixes = append(c.prefixes, prefix{p, o.PreferredLifetime, o.ValidLifetime})
			}
		case *ndp.PREF64:
			if o.Lifetime > 0 {
				c.pref64 = append(c.pref64, o.Prefix.Masked())
			}
		}
	}
	return c
}

// Bounds of what other routers make us log and remember.
const (
	maxDisagreements = 8  // of one advertisement
	maxRemembered    = 64 // sentences
	logInterval      = time.Hour
	minLogInterval   = 10 * time.Second
)

// others remembers what has been logged about other routers, so that neither
// one that goes on nor a forger of many fills the log.
type others struct {
	logged map[string]time.Time
	last   time.Time
}

// news returns those of the sentences about a router that are to be logged now.
func (o *others) news(from netip.Addr, sentences []string, now time.Time) (fresh []string) {
	for _, s := range sentences {
		k := from.String() + " " + s
		if at, ok := o.logged[k]; ok && now.Sub(at) < logInterval {
			continue
		}
		// At first everything about one router, then one line in a while.
		if len(o.logged) >= maxDisagreements && now.Sub(o.last) < minLogInterval {
			continue
		}
		if o.logged == nil {
			o.logged = map[string]time.Time{}
		}
		if len(o.logged) >= maxRemembered {
			clear(o.logged)
		}
		o.logged[k], o.last = now, now
		fresh = append(fresh, s)
	}
	return fresh
}
