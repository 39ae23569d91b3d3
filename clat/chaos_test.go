package clat

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/soak"
)

// Whatever happens to a host with two uplinks and in whatever order, once it
// is left alone and its networks are there both CLATs run with everything that
// belongs to them, and after the end nothing is left.
func TestChaos(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			c := chaos{bench: newBench(t, two), r: rand.New(rand.NewPCG(seed, soak.Seed(t)))}
			c.good = c.host.o
			c.good.Links, c.good.Addrs, c.good.Routes = slices.Clone(c.good.Links), slices.Clone(c.good.Addrs), slices.Clone(c.good.Routes)
			for range 40 {
				op := chaosOps[c.r.IntN(len(chaosOps))]
				c.story = append(c.story, op.what)
				op.do(&c)
				c.settle(c.r.IntN(3))
			}
			c.host.failAt, c.host.vanish = "", ""
			c.makeGood()
			c.check()
			if t.Failed() {
				t.Fatalf("seed %d: %s", seed, strings.Join(c.story, "; "))
			}
		})
	}
}

type chaos struct {
	*bench
	r     *rand.Rand
	good  plan.Observed // what is not ours
	story []string
}

var chaosOps = []struct {
	what string
	do   func(*chaos)
}{
	{"DAD passes", func(c *chaos) { c.host.dad(true) }},
	{"DAD passes", func(c *chaos) { c.host.dad(true) }},
	{"DAD passes", func(c *chaos) { c.host.dad(true) }},
	{"DAD refuses", func(c *chaos) { c.host.dad(false) }},
	{"all is well", func(c *chaos) { c.makeGood() }},
	{"time passes", func(c *chaos) { time.Sleep(time.Duration(c.r.IntN(90)) * time.Second) }},
	{"link down", func(c *chaos) {
		i := c.r.IntN(2)
		c.host.o.Links[i].Up, c.host.o.Links[i].Carrier = false, false
		index := c.host.o.Links[i].Index
		c.host.o.Addrs = slices.DeleteFunc(c.host.o.Addrs, func(a plan.Addr) bool { return a.Link == index })
		c.host.o.Routes = slices.DeleteFunc(c.host.o.Routes, func(r plan.Route) bool { return r.Link == index })
	}},
	{"no default route", func(c *chaos) {
		index := 2 + c.r.IntN(2)
		c.host.o.Routes = slices.DeleteFunc(c.host.o.Routes, func(r plan.Route) bool { return r.Link == index })
	}},
	{"ip route flush", func(c *chaos) { c.host.o.Routes = nil }},
	{"ip rule flush", func(c *chaos) { c.host.o.Rules = nil }},
	{"no PREF64", func(c *chaos) {
		index := 2 + c.r.IntN(2)
		c.host.o.PREF64 = slices.DeleteFunc(slices.Clone(c.host.o.PREF64), func(p plan.PREF64) bool { return p.Link == index })
	}},
	{"another PREF64", func(c *chaos) {
		c.host.o.PREF64 = []plan.PREF64{
			{Link: 2, Prefix: netip.MustParsePrefix(fmt.Sprintf("2001:db8:64:%x::/96", c.r.IntN(3)))},
			{Link: 3, Prefix: netip.MustParsePrefix(fmt.Sprintf("2001:db8:64:%x::/96", c.r.IntN(3)))},
		}
	}},
	{"another network", func(c *chaos) {
		index := 2 + c.r.IntN(2)
		c.host.o.Addrs = slices.DeleteFunc(c.host.o.Addrs, func(a plan.Addr) bool { return a.Link == index && a.Prefix.Bits() == 64 })
		c.host.o.Addrs = append(c.host.o.Addrs, plan.Addr{Link: index, Prefix: netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::10/64", 16+c.r.IntN(4))), Valid: plan.Forever})
	}},
	{"native IPv4", func(c *chaos) {
		c.host.addNative(2+c.r.IntN(2), c.r.IntN(5000))
	}},
	{"native IPv4 goes", func(c *chaos) {
		c.host.dropNative()
	}},
	{"a CLAT address removed", func(c *chaos) {
		if own := c.rec.Memory().Own; len(own) > 0 {
			c.host.dropAddr(own[c.r.IntN(len(own))])
		}
	}},
	{"a TUN deleted", func(c *chaos) {
		if m := c.rec.Memory().CLATs; len(m) > 0 && m[0].TUNIndex != 0 {
			c.host.dropLink(m[c.r.IntN(len(m))].TUNIndex)
		}
	}},
	{"a step fails", func(c *chaos) {
		c.host.failAt = []string{"addr add", "tun open", "link set", "steer", "engine", "route append", "rule add", "guard", "addr del"}[c.r.IntN(9)]
	}},
	{"a link vanishes in between", func(c *chaos) { c.host.vanish = []string{"link set", "route append"}[c.r.IntN(2)] }},
	{"no more failures", func(c *chaos) { c.host.failAt, c.host.vanish = "", "" }},
	{"never", func(c *chaos) { c.conf.Enable = plan.Never }},
	{"auto", func(c *chaos) { c.conf.Enable = plan.Auto }},
	{"always", func(c *chaos) { c.conf.Enable = plan.Always }},
}

// makeGood restores everything that is not ours.
func (c *chaos) makeGood() {
	o := &c.host.o
	c.conf.Enable = plan.Auto
	ours := func(link int) bool { return link >= 100 }
	copy(o.Links, c.good.Links)
	keep := slices.DeleteFunc(o.Addrs, func(a plan.Addr) bool { return !ours(a.Link) && a.Protocol != plan.Protocol })
	o.Addrs = append(slices.Clone(c.good.Addrs), keep...)
	routes := slices.DeleteFunc(o.Routes, func(r plan.Route) bool { return !ours(r.Link) })
	o.Routes = append(slices.Clone(c.good.Routes), routes...)
	o.PREF64, o.Egress4 = c.good.PREF64, nil
}

// settle does what the daemon does after a change.
func (c *chaos) settle(passes int) {
	for range passes {
		for range 8 {
			ps, _ := c.passAll()
			if !slices.Contains(ps, Replan) {
				break
			}
		}
	}
}

func (c *chaos) check() {
	c.t.Helper()
	for range 20 {
		c.settle(1)
		c.host.dad(true)
		time.Sleep(max(c.rec.RetryAfter(), time.Second))
	}
	c.host.text()
	ps, err := c.passAll()
	if err != nil || !slices.Equal(ps, []Progress{Up, Up}) {
		c.t.Errorf("progress %v, %v", ps, err)
	}
	if did := c.host.text(); did != "" {
		c.t.Errorf("still busy:\n%s", did)
	}
	if c.rec.RetryAfter() != 0 {
		c.t.Errorf("still wants to be called in %s", c.rec.RetryAfter())
	}
	o, m := c.host.o, c.rec.Memory()
	// Per CLAT two addresses, two routes, a rule and a link.
	if len(o.Links) != 4 || len(o.Addrs) != 6 || len(o.Routes) != 6 || len(o.Rules) != 2 || len(m.Own) != 2 || len(m.CLATs) != 2 || len(c.rec.guards.links) != 0 {
		c.t.Errorf("the host has %d links, %d addresses, %d routes, %d rules, %d guards: %+v", len(o.Links), len(o.Addrs), len(o.Routes), len(o.Rules), len(c.rec.guards.links), o)
	}
	if err := c.rec.Down(); err != nil {
		c.t.Error(err)
	}
	if o := c.host.o; len(o.Links) != 2 || len(o.Addrs) != 2 || len(o.Routes) != 2 || len(o.Rules) != 0 {
		c.t.Errorf("left behind: %+v", o)
	}
}
