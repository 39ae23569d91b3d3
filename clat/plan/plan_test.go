package plan_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tnat64d/clat/plan"
	"tnat64d/clat/plan/plantest"
	"tnat64d/siit"
)

// The cases of TestPlan are files in testdata/plan: the host, the
// configuration and, after "=>", what Make returns. One observation per line, in
// words close to those of iproute2:
//
//	link 2 wlan0 [kind K] [down] [nocarrier] [mtu N] [mtu6 N] [port] [ours] [rpfilter N] [program NAME] [hidden]
//	addr wlan0 2001:db8::1/64 [temporary] [deprecated] [tentative] [dadfailed] [valid 30m] [proto N]
//	route6 default dev wlan0 [metric N] [mtu N] [table N] [proto N]
//	route4 default|0.0.0.0/1 dev wlan0 ... [src ADDR] [linkdown] [useless]
//	tables4 TABLE RULE ...
//	pref64 wlan0 64:ff9b::/96 [from ROUTER] [excused 2001:db8::/64 ...]
//	advertised wlan0 [unheard] [2001:db8::/64 [by ROUTER] [neighbour] [deprecated] ...]
//	running wlan0 clat0 IPv4 IPv6, shares wlan0 clat0 IPv4 IPv6, own ADDR, refused LINK ADDR
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
				o, conf, err := plantest.Parse(given)
				if err != nil {
					t.Fatalf("case %d: %v", i, err)
				}
				p := plan.Make(o, conf)
				for _, d := range p.Uplinks {
					if d.Why.Reason == plan.None {
						t.Errorf("case %d: no reason for %s", i, d.Name)
					}
				}
				got := planText(p)
				if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" {
					t.Errorf("case %d:\n%s\n(-want +got)\n%s", i, given, diff)
				}
			}
		})
	}
}

// planText is a plan as people read it. Of what is guarded it names only links
// without a CLAT.
func planText(p plan.Plan) string {
	var b strings.Builder
	if p.Why.Reason != plan.None {
		fmt.Fprintln(&b, "why:", p.Why)
	}
	var guarded []string
	for _, u := range p.Guard {
		if !slices.ContainsFunc(p.Uplinks, func(d plan.Desired) bool { return d.Uplink == u && d.CLAT != nil }) {
			guarded = append(guarded, u.Name)
		}
	}
	for _, d := range p.Uplinks {
		desiredText(&b, d)
	}
	if len(guarded) > 0 {
		fmt.Fprintln(&b, "guard:", strings.Join(guarded, " "))
	}
	if r := p.SourceRules; r.Wanted && r.Priority == 32765 {
		fmt.Fprintln(&b, "with source rules")
	} else if r.Wanted {
		fmt.Fprintln(&b, "with source rules of priority", r.Priority)
	}
	return strings.TrimSpace(b.String())
}

func desiredText(b *strings.Builder, d plan.Desired) {
	if c := d.CLAT; c != nil {
		fmt.Fprintf(b, "%s on %s: %s <-> %s, pref64 %s, mtu %d/%d, metric %d", c.TUN, c.Uplink.Name, c.IPv4, c.IPv6, c.PREF64.Prefix, c.MTU.IPv4(), c.MTU, c.Metric)
		if c.Table != plan.TableMain {
			fmt.Fprintf(b, ", table %d", c.Table)
		}
		if c.Shared {
			fmt.Fprint(b, ", shared")
		}
		if c.Via.IsValid() {
			fmt.Fprintf(b, ", via %s", c.Via)
		}
		fmt.Fprintln(b)
		for _, t := range c.Tables {
			to := "default"
			if t.Part.IsValid() {
				to = t.Part.String()
			}
			fmt.Fprintf(b, "route %s table %d metric %d\n", to, t.Table, t.Metric)
		}
		if len(c.EAMAddrs) > 0 {
			fmt.Fprintln(b, "answers for", c.EAMAddrs)
		}
	}
	switch {
	case d.Hold:
		fmt.Fprintln(b, "hold:", d.Why)
		detects(b, d)
	case d.Standby:
		fmt.Fprintln(b, "standby:", d.Why)
		if d.Reserve.IsValid() {
			fmt.Fprintln(b, "reserve:", d.Reserve)
		}
	default:
		fmt.Fprintln(b, "why:", d.Why)
		detects(b, d)
	}
	for _, w := range d.Warnings {
		fmt.Fprintln(b, "warning:", w)
	}
}

// What goes into the translator is all of the template and all of the plan.
func TestPlanFillsTranslation(t *testing.T) {
	o, c, err := plantest.Parse(`
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
	got := plan.Make(o, c).Uplinks[0].CLAT
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

// A router cannot lead the CLAT's address into the NAT64 prefix of a network in the
// configuration: its PLAT would drop everything from there.
func TestNoAddressBehindNetworks(t *testing.T) {
	const network = "2001:db8:c0::/96"
	make := func(given string) plan.Desired {
		t.Helper()
		o, c, err := plantest.Parse("link 2 wlan0\nroute6 default dev wlan0\npref64 wlan0 64:ff9b::/96\n" + given)
		if err != nil {
			t.Fatal(err)
		}
		c.Translation.Mapping.Networks = []siit.Network{{IPv4: netip.MustParsePrefix("10.0.0.0/8"), PREF64: netip.MustParsePrefix(network)}, {IPv4: netip.MustParsePrefix("172.16.0.0/12")}}
		p := plan.Make(o, c)
		if len(p.Uplinks) != 1 {
			t.Fatalf("%d uplinks", len(p.Uplinks))
		}
		return p.Uplinks[0]
	}
	if d := make("addr wlan0 2001:db8:c0::1/112\naddr wlan0 2001:db8:1::1/64\n"); d.CLAT == nil || !netip.MustParsePrefix("2001:db8:1::/64").Contains(d.CLAT.IPv6) {
		t.Errorf("with another prefix: %+v", d)
	}
	for _, given := range []string{"addr wlan0 2001:db8:c0::1/112\n", "addr wlan0 2001:db8:c0::1/128\n", "addr wlan0 2001:db8:c0::1/112\nconfig ipv6 shared\n"} {
		if d := make(given); d.CLAT != nil {
			t.Errorf("%s: CLAT with %v", given, d.CLAT.IPv6)
		}
	}
	if d := make("addr wlan0 2001:db8:1::1/64\nconfig ipv6 2001:db8:c0::7\n"); d.Why.Reason != plan.IPv6InPREF64 {
		t.Errorf("configured: %v", d.Why)
	}
}

// detects prints the address whose duplicate address detection begins.
func detects(b *strings.Builder, d plan.Desired) {
	if d.Detect.IsValid() {
		fmt.Fprintln(b, "detect:", d.Detect)
	}
}
