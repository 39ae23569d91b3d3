package clat

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tnat64d/siit"
)

// The cases of TestPlan are files in testdata/plan: the host, the
// configuration and, after "=>", what Plan says. One observation per line, in
// words close to those of iproute2:
//
//	link 2 wlan0 [kind K] [down] [nocarrier] [mtu N] [mtu6 N] [port] [ours] [rpfilter N] [program NAME]
//	addr wlan0 2001:db8::1/64 [temporary] [deprecated] [tentative] [dadfailed] [valid 30m]
//	route6 default dev wlan0 [metric N] [mtu N] [table N]
//	route4 default dev wlan0 ...
//	pref64 wlan0 64:ff9b::/96 [from ROUTER] [excused 2001:db8::/64 ...]
//	advertised wlan0 [unheard] [2001:db8::/64 [by ROUTER] [neighbour] [deprecated] ...]
//	running wlan0 clat0 IPv4 IPv6, own ADDR, refused LINK ADDR
//	config KEY VALUE
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range strings.Split(string(b), "\n--\n") {
				given, want, ok := strings.Cut(c, "=>\n")
				if !ok {
					t.Fatalf("case %d has no =>", i)
				}
				o, conf, err := parseCase(given)
				if err != nil {
					t.Fatalf("case %d: %v", i, err)
				}
				got := planText(Plan(o, conf))
				if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" {
					t.Errorf("case %d:\n%s\n(-want +got)\n%s", i, given, diff)
				}
			}
		})
	}
}

// planText is a plan as people read it. Of what is guarded it names only links
// without a CLAT.
func planText(p Plans) string {
	var b strings.Builder
	if p.Why != "" {
		fmt.Fprintln(&b, "why:", p.Why)
	}
	var guarded []string
	for _, u := range p.Guard {
		if !slices.ContainsFunc(p.Uplinks, func(d Desired) bool { return d.Uplink == u && d.CLAT != nil }) {
			guarded = append(guarded, u.Name)
		}
	}
	for _, d := range p.Uplinks {
		desiredText(&b, d)
	}
	if len(guarded) > 0 {
		fmt.Fprintln(&b, "guard:", strings.Join(guarded, " "))
	}
	if p.SourceRules {
		fmt.Fprintln(&b, "with source rules")
	}
	return strings.TrimSpace(b.String())
}

func desiredText(b *strings.Builder, d Desired) {
	if c := d.CLAT; c != nil {
		fmt.Fprintf(b, "%s on %s: %s <-> %s, pref64 %s, mtu %d/%d, metric %d", c.TUN, c.Uplink.Name, c.IPv4, c.IPv6, c.PREF64.Prefix, c.MTU.IPv4(), c.MTU, c.Metric)
		if c.Via.IsValid() {
			fmt.Fprintf(b, ", via %s", c.Via)
		}
		fmt.Fprintln(b)
		if len(c.EAMAddrs) > 0 {
			fmt.Fprintln(b, "answers for", c.EAMAddrs)
		}
	}
	switch {
	case d.Hold:
		fmt.Fprintln(b, "hold:", d.Why)
	case d.Standby:
		fmt.Fprintln(b, "standby:", d.Why)
	default:
		fmt.Fprintln(b, "why:", d.Why)
	}
	for _, w := range d.Warnings {
		fmt.Fprintln(b, "warning:", w)
	}
}

func parseCase(text string) (Observed, Config, error) {
	var o Observed
	c := Config{Secret: []byte("a secret for tests"), Metric: 2048}
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if err := parseLine(&o, &c, f); err != nil {
			return o, c, fmt.Errorf("%q: %w", line, err)
		}
	}
	return o, c, nil
}

func parseLine(o *Observed, c *Config, f []string) error {
	next := func() string {
		if len(f) == 0 {
			return ""
		}
		s := f[0]
		f = f[1:]
		return s
	}
	var bad error
	number := func() int {
		n, err := strconv.Atoi(next())
		if err != nil {
			bad = err
		}
		return n
	}
	dev := func() int {
		name := next()
		l, ok := o.linkByName(name)
		if !ok {
			bad = fmt.Errorf("no link %q", name)
		}
		return l.Index
	}
	switch word := next(); word {
	case "link":
		l := Link{Index: number(), Name: next(), Up: true, Carrier: true, MTU: 1500}
		for len(f) > 0 {
			switch w := next(); w {
			case "kind":
				l.Kind = next()
			case "down":
				l.Up = false
			case "nocarrier":
				l.Carrier = false
			case "program":
				l.Programs = append(l.Programs, next())
			case "loopback":
				l.Loopback = true
			case "alt":
				l.AltNames = append(l.AltNames, next())
			case "port":
				l.BridgePort = true
			case "mtu":
				l.MTU = number()
			case "mtu6":
				l.MTU6 = MTU6(number())
			case "rpfilter":
				l.RPFilter = number()
			case "ours":
				l.Alias = AliasPrefix + "x"
			default:
				return fmt.Errorf("unknown word %q", w)
			}
		}
		o.Links = append(o.Links, l)
	case "addr":
		a := Addr{Link: dev(), Prefix: netip.MustParsePrefix(next()), Valid: Forever}
		for len(f) > 0 {
			switch w := next(); w {
			case "temporary":
				a.Temporary = true
			case "deprecated":
				a.Deprecated = true
			case "tentative":
				a.Tentative = true
			case "dadfailed":
				a.DADFailed = true
			case "valid":
				a.Valid, bad = time.ParseDuration(next())
			default:
				return fmt.Errorf("unknown word %q", w)
			}
		}
		o.Addrs = append(o.Addrs, a)
	case "route4", "route6":
		r := Route{IPv6: word == "route6", Table: TableMain}
		useless := false
		for len(f) > 0 {
			switch w := next(); w {
			case "default":
			case "via":
				r.Gateway = netip.MustParseAddr(next())
			case "dev":
				r.Link = dev()
			case "metric":
				r.Metric = number()
			case "mtu":
				r.MTU = number()
			case "table":
				r.Table = number()
			case "linkdown":
				r.LinkDown = true
			case "useless": // no packet leaves by it with a source that counts
				useless = true
			default:
				return fmt.Errorf("unknown word %q", w)
			}
		}
		o.Routes = append(o.Routes, r)
		if l, _ := o.linkByIndex(r.Link); !r.IPv6 && !useless && !r.LinkDown && !o.isOurs(l) {
			o.leave(r.Link, netip.AddrFrom4([4]byte{10, byte(r.Link), 0, 2}), 0, len(globalIPv4))
		}
	case "egress4": // LINK SOURCE [PROTOCOL [DESTINATIONS]]: what the kernel answers for another flow
		link, source, protocol, n := dev(), netip.MustParseAddr(next()), 0, len(globalIPv4)
		if len(f) > 0 {
			protocol = number()
		}
		if len(f) > 0 {
			n = number()
		}
		o.answer(link, source, protocol, n)
	case "onlink4":
		o.OnLink4 = append(o.OnLink4, OnLink{dev(), netip.MustParsePrefix(next())})
	case "pref64":
		p := PREF64{Link: dev(), Prefix: netip.MustParsePrefix(next()), Source: "test"}
		for len(f) > 0 {
			switch w := next(); w {
			case "from":
				p.Routers = append(p.Routers, netip.MustParseAddr(next()))
			case "excused":
				p.Excused = append(p.Excused, netip.MustParsePrefix(next()))
			default:
				return fmt.Errorf("unknown word %q", w)
			}
		}
		o.PREF64 = append(o.PREF64, p)
	case "advertised":
		a := Advertised{Link: dev(), Default: true}
		for len(f) > 0 {
			switch w := next(); w {
			case "by":
				a.SLAAC[len(a.SLAAC)-1].Router = netip.MustParseAddr(next())
			case "unheard":
				a.Default = false
			case "neighbour":
				a.SLAAC[len(a.SLAAC)-1].Default = false
			case "deprecated":
				a.SLAAC[len(a.SLAAC)-1].Preferred = false
			default:
				a.SLAAC = append(a.SLAAC, SLAAC{Prefix: netip.MustParsePrefix(w), Default: true, Preferred: true})
			}
		}
		o.Advertised = append(o.Advertised, a)
	case "own":
		o.Memory.Own = append(o.Memory.Own, netip.MustParseAddr(next()))
	case "refused":
		o.Memory.Refused = append(o.Memory.Refused, Refusal{dev(), netip.MustParseAddr(next())})
	case "running":
		index := dev()
		r := Remembered{Uplink: Uplink{o.linkName(index), index}, TUN: next(), IPv4: netip.MustParseAddr(next()), IPv6: netip.MustParseAddr(next())}
		if t, ok := o.linkByName(r.TUN); ok {
			r.TUNIndex = t.Index
		}
		o.Memory.CLATs = append(o.Memory.CLATs, r)
		o.Memory.Own = append(o.Memory.Own, r.IPv6)
	case "config":
		switch w := next(); w {
		case "enable":
			c.Enable = map[string]Enable{"auto": Auto, "always": Always, "never": Never}[next()]
		case "uplinks":
			c.Uplinks, f = f, nil
		case "ipv6":
			c.IPv6 = netip.MustParseAddr(next())
		case "ipv4":
			c.IPv4 = netip.MustParseAddr(next())
		case "mtu":
			c.MTU = MTU4(number())
		case "metric":
			c.Metric = number()
		case "tun":
			c.TUN = next()
		case "icmp-source":
			c.Translation.ICMPSource4 = netip.MustParseAddr(next())
		case "eam":
			c.Translation.Mapping.EAM = append(c.Translation.Mapping.EAM, siit.EAM{IPv4: netip.MustParsePrefix(next()), IPv6: netip.MustParsePrefix(next())})
		default:
			return fmt.Errorf("unknown key %q", w)
		}
	default:
		return fmt.Errorf("unknown word %q", word)
	}
	if bad == nil && len(f) > 0 {
		return fmt.Errorf("left over: %q", f)
	}
	return bad
}

// What goes into the translator is all of the template and all of the plan.
func TestPlanFillsTranslation(t *testing.T) {
	o, c, err := parseCase(`
		link 2 wlan0 mtu 1500 mtu6 1280
		addr wlan0 2001:db8:1::10/64
		route6 default dev wlan0
		pref64 wlan0 64:ff9b::/96
		config ipv6 2001:db8:1::c1a7`)
	if err != nil {
		t.Fatal(err)
	}
	eam := []siit.EAM{{IPv4: netip.MustParsePrefix("192.0.2.0/28"), IPv6: netip.MustParsePrefix("2001:db8:cccc::/124")}}
	c.Translation = siit.Config{LowestIPv6MTU: 1400, NodeID: true, Mapping: siit.Mapping{EAM: eam}}
	got := Plan(o, c).Uplinks[0].CLAT
	want := siit.Config{
		Mapping: siit.Mapping{
			PREF64: netip.MustParsePrefix("64:ff9b::/96"),
			CLAT:   siit.Pair{IPv4: netip.MustParseAddr("192.0.0.1"), IPv6: netip.MustParseAddr("2001:db8:1::c1a7")},
			EAM:    eam,
		},
		MTU6: 1280, MTU4: 1260, LowestIPv6MTU: 1280, NodeID: true,
		ICMPSource4: netip.MustParseAddr("192.0.0.2"),
	}
	comparer := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	prefixes := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, got.Translation, comparer, prefixes); diff != "" {
		t.Errorf("translation (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff("[2001:db8:1::c1a7/128 2001:db8:cccc::/124]", fmt.Sprint(got.Ours())); diff != "" {
		t.Errorf("ours (-want +got)\n%s", diff)
	}
}

// leave gives a link an address from which the first n destinations are reached.
func (o *Observed) leave(link int, source netip.Addr, protocol, n int) {
	o.Addrs = append(o.Addrs, Addr{Link: link, Prefix: netip.PrefixFrom(source, 24), Valid: Forever})
	o.answer(link, source, protocol, n)
}

// answer is what the kernel answers for one more flow.
func (o *Observed) answer(link int, source netip.Addr, protocol, n int) {
	f := len(o.Egress4)
	for _, to := range globalIPv4[:n] {
		o.Egress4 = append(o.Egress4, Egress{Link: link, Flow: f, To: to, Source: source, Protocol: protocol})
	}
}
