package plan_test

import (
	"regexp"
	"strings"
	"testing"

	"tnat64d/clat/plan"
	"tnat64d/clat/plan/plantest"
)

func TestReasonsHaveWordsAndSentences(t *testing.T) {
	seen := map[string]bool{}
	word := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for r := range plan.NumReasons {
		if !word.MatchString(r.String()) || seen[r.String()] {
			t.Errorf("reason %d is called %q", r, r)
		}
		seen[r.String()] = true
		if e := r.Explanation(); !strings.HasSuffix(e, ".") {
			t.Errorf("explanation of %s: %q", r, e)
		}
	}
}

// A bring-up that failed waits, with the reason of the failure; another one does
// not.
func TestPlanBacksOff(t *testing.T) {
	o, c, err := plantest.Parse(`
		link 2 wlan0
		addr wlan0 2001:db8:1::10/64
		route6 default dev wlan0
		pref64 wlan0 64:ff9b::/96`)
	if err != nil {
		t.Fatal(err)
	}
	want := plan.Make(o, c).Uplinks[0]
	why := plan.Why{Reason: plan.StepFailed, Text: "the test says no"}
	o.Memory.Failed = []plan.Failure{{Uplink: want.Uplink, Attempt: want.CLAT.Attempt(), Why: why}}
	p := plan.Make(o, c)
	if d := p.Uplinks[0]; d.CLAT != nil || !d.Backoff || d.Why != why {
		t.Errorf("the attempt is repeated at once: %+v", d)
	}
	if len(p.Guard) != 1 {
		t.Errorf("guards are removed meanwhile: %v", p.Guard)
	}
	o.PREF64[0].Prefix = o.Addrs[0].Prefix // of this host: no attempt at all
	if d := plan.Make(o, c).Uplinks[0]; d.Backoff || d.Why.Reason != plan.PREF64ContainsHost {
		t.Errorf("not asked about a PREF64 of the host: %+v", d)
	}
	o, _, _ = plantest.Parse(`
		link 2 wlan0
		addr wlan0 2001:db8:1::10/64
		route6 default dev wlan0
		pref64 wlan0 2001:db8:64::/96`)
	o.Memory.Failed = []plan.Failure{{Uplink: want.Uplink, Attempt: want.CLAT.Attempt(), Why: why}}
	if d := plan.Make(o, c).Uplinks[0]; d.CLAT == nil {
		t.Errorf("another PREF64 has to wait: %+v", d)
	}
}

// Resolvers are asked while there is use for an answer and they may be reached.
func TestPlanAsksDNS(t *testing.T) {
	for name, c := range map[string]struct {
		host string
		want bool
	}{
		"no PREF64 yet":      {"link 2 wlan0\naddr wlan0 2001:db8:1::10/64\nroute6 default dev wlan0", true},
		"native IPv4":        {"link 2 wlan0\naddr wlan0 2001:db8:1::10/64\nroute6 default dev wlan0\nroute4 default dev wlan0", false},
		"network withdrawn":  {"link 2 wlan0\nlink 9 clat0 kind tun ours\nrunning wlan0 clat0 192.0.0.1 2001:db8:1::c1a7", true},
		"held, no carrier":   {"link 2 wlan0 nocarrier\nlink 9 clat0 kind tun ours\nrunning wlan0 clat0 192.0.0.1 2001:db8:1::c1a7", false},
		"PREF64 is known":    {"link 2 wlan0\naddr wlan0 2001:db8:1::10/64\nroute6 default dev wlan0\npref64 wlan0 64:ff9b::/96", true},
		"another CLAT there": {"link 2 wlan0 program clat\naddr wlan0 2001:db8:1::10/64\naddr wlan0 192.0.0.5/32\nroute4 default dev wlan0 src 192.0.0.5\nroute6 default dev wlan0", false},
	} {
		o, conf, err := plantest.Parse(c.host)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := plan.Make(o, conf).Uplinks[0].AskDNS; got != c.want {
			t.Errorf("%s: ask %t", name, got)
		}
	}
}
