package nat44

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/needs"
)

// networks returns what the kernel knows of hosts. It may change the table while it
// lists it, so that two lists must agree.
func networks(t *testing.T, r *Ruleset) (all map[string]string) {
	t.Helper()
	for range 1000 {
		former := all
		if all = networksOnce(t, r); former != nil && maps.Equal(all, former) {
			return all
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the kernel says something else each time")
	return nil
}

func networksOnce(t *testing.T, r *Ruleset) map[string]string {
	t.Helper()
	set, err := r.conn.GetSetByName(r.v4, places)
	if err != nil {
		t.Fatal(err)
	}
	elements, err := r.conn.GetSetElements(set)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range elements {
		a, _ := netip.AddrFromSlice(e.Key)
		n, _ := netip.AddrFromSlice(e.Val[4:])
		all[a.String()] = n.String()
	}
	return all
}

func TestPlace(t *testing.T) {
	needs.Netns(t)
	host := func(ipv4, ipv6 string) Host { return Host{netip.MustParseAddr(ipv4), netip.MustParseAddr(ipv6)} }
	r, err := New(config(Masquerade))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wants := func(what string, want map[string]string) {
		t.Helper()
		if got := networks(t, r); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	must(r.Place(host("100.64.0.2", "2001:db8:1:2::5"), host("100.64.0.3", "2001:db8:1:3:a:b:c:d")))
	both := map[string]string{"100.64.0.2": "2001:db8:1:2::", "100.64.0.3": "2001:db8:1:3::"}
	wants("placed", both)
	must(r.Place(host("100.64.0.2", "2001:db8:1:2::6")))
	wants("another host of the same network", both)
	must(r.Set(config(Pool)))
	wants("other rules", both)
	must(r.Place(host("100.64.0.4", "2001:db8:1:4::1"), host("100.64.0.2", "2001:db8:1:9::1")))
	wants("moved", map[string]string{"100.64.0.2": "2001:db8:1:9::", "100.64.0.3": "2001:db8:1:3::", "100.64.0.4": "2001:db8:1:4::"})
	must(r.Displace([]netip.Addr{netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("100.64.0.77"), netip.MustParseAddr("100.64.0.3")}))
	wants("one is not there", map[string]string{"100.64.0.4": "2001:db8:1:4::"})
	must(r.Displace([]netip.Addr{netip.MustParseAddr("100.64.0.4")}))
	wants("none", map[string]string{})

	var many []Host
	var addresses []netip.Addr
	for i := range 3500 {
		h := Host{at([]Range{{netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("100.64.255.254")}}, i), netip.MustParseAddr("2001:db8::1")}
		many, addresses = append(many, h), append(addresses, h.IPv4)
	}
	must(r.Place(many...))
	if n := len(networks(t, r)); n != len(many) {
		t.Errorf("%d hosts are placed, want %d", n, len(many))
	}
	must(r.Displace(addresses))
	wants("all gone", map[string]string{})

	unlimited := config(Masquerade)
	unlimited.ConnectionsPer64 = 0
	for name, c := range map[string]Config{"no limit": unlimited, "routed pool": config(None)} {
		must(r.Set(c))
		if err := r.Place(many...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The groups of a limit have no more connections than the limit, and nearly as many.
func TestLimitGroups(t *testing.T) {
	needs.Netns(t)
	c := config(Masquerade)
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, limit := range []int{1, 5, 256, 257, 1000, 4000, 65536, 1 << 24, 1<<31 - 1} {
		c.ConnectionsPerClient, c.ConnectionsPer64 = limit, limit
		if err := r.Set(c); err != nil {
			t.Errorf("limit %d: %v", limit, err)
			continue
		}
		groups, each := limitOf(t, "connections")
		if groups == 0 {
			t.Fatalf("no rule limits clients:\n%s", listRules(t))
		}
		if total := groups * each; total > limit || total < limit-limit/perGroup-1 || each > perGroup {
			t.Errorf("limit %d: %d groups of %d", limit, groups, each)
		}
		if _, e := limitOf(t, "connections64"); e != each {
			t.Errorf("limit %d: groups of %d for a client and of %d for a network", limit, each, e)
		}
	}
}

// limitOf returns the number of groups that a rule makes, if nft shows it, and the
// limit of each.
func limitOf(t *testing.T, set string) (groups, each int) {
	t.Helper()
	for line := range strings.Lines(listRules(t)) {
		_, rule, ok := strings.Cut(line, "add @"+set+" {")
		if !ok {
			continue
		}
		if _, s, ok := strings.Cut(rule, "mod "); ok {
			fmt.Sscan(s, &groups)
		}
		if _, s, ok := strings.Cut(rule, "count over "); ok {
			fmt.Sscan(s, &each)
		}
	}
	return groups, each
}

// A rule has no more than 128 expressions.
func TestManyInterfaces(t *testing.T) {
	needs.Netns(t)
	c := config(Masquerade)
	for i := range 300 {
		c.Inside = append(c.Inside, "lan"+netip.AddrFrom4([4]byte{0, 0, byte(i >> 8), byte(i)}).String())
	}
	c.Outside = c.Inside
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
