package plat

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"tnat64d/siit"
)

// mirror is a kernel engine that translates when the test says so.
type mirror struct {
	hosts map[netip.Addr]netip.Addr // by IPv6 address
	seen  map[netip.Addr]uint64
}

func newMirror() *mirror {
	return &mirror{map[netip.Addr]netip.Addr{}, map[netip.Addr]uint64{}}
}

func (m *mirror) Put(ipv4, ipv6 netip.Addr)         { m.hosts[ipv6] = ipv4 }
func (m *mirror) Remove(_, ipv6 netip.Addr)         { delete(m.hosts, ipv6) }
func (m *mirror) Seen(ipv6 netip.Addr) (n uint64)   { return m.seen[ipv6] }
func (m *mirror) translates(ipv6 netip.Addr) uint64 { m.seen[ipv6]++; return m.seen[ipv6] }

// The mirror has the maps of the table at any time, and its packets keep them.
func TestMirror(t *testing.T) {
	static := siit.Pair{IPv4: netip.MustParseAddr("203.0.113.9"), IPv6: netip.MustParseAddr("2001:db8::9")}
	table, err := NewTable(TableConfig{
		Pool: netip.MustParsePrefix("100.64.0.0/24"), Static: []siit.Pair{static}, MaxPer64: 10, Idle: time.Hour,
		Clients: func(a netip.Addr) bool { return a != netip.MustParseAddr("2001:db8::bad") }, PREF64: netip.MustParsePrefix("64:ff9b::/96"),
	})
	if err != nil {
		t.Fatal(err)
	}
	m := newMirror()
	agree := func(when string) {
		t.Helper()
		want := map[netip.Addr]netip.Addr{}
		for _, e := range table.Maps(time.Now()) {
			want[e.IPv6] = e.IPv4
		}
		if !maps.Equal(m.hosts, want) {
			t.Errorf("%s: the mirror has %v, the table %v", when, m.hosts, want)
		}
	}
	a, b := netip.MustParseAddr("2001:db8::a"), netip.MustParseAddr("2001:db8::b")
	table.Admit(a)
	table.SetMirror(m)
	agree("at first")
	table.Admit(b)
	for _, refused := range []string{"2001:db8::bad", "64:ff9b::1"} {
		if r := table.Admit(netip.MustParseAddr(refused)); r == siit.None {
			t.Errorf("%s is admitted", refused)
		}
	}
	agree("with one more host")
	if len(m.hosts) != 3 {
		t.Errorf("the mirror has %v", m.hosts)
	}
	now := time.Now()
	for range 10 { // a is silent for an hour in the end, b is not
		now = now.Add(10 * time.Minute)
		m.translates(b)
		table.Sweep(now)
	}
	agree("after a while")
	if _, ok := m.hosts[a]; ok || len(m.hosts) != 2 {
		t.Errorf("the mirror has %v, want the static host and %s", m.hosts, b)
	}
	table.Sweep(now.Add(time.Hour))
	agree("after an hour of silence")
	if len(m.hosts) != 1 {
		t.Errorf("the mirror has %v, want the static host", m.hosts)
	}
	table.SetMirror(nil)
	table.Admit(a)
	if len(m.hosts) != 1 {
		t.Error("a mirror is told of changes after it was taken away")
	}
}
