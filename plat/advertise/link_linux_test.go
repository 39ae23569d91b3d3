package advertise

import (
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"tnat64d/internal/needs"
)

func TestLinkLocalOrder(t *testing.T) {
	a, b, c := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fe80::ff:fe00:3")
	all := []netip.Prefix{netip.PrefixFrom(c, 64), netip.MustParsePrefix("2001:db8::1/64"), netip.PrefixFrom(a, 64), netip.PrefixFrom(b, 64)}
	for last, want := range map[netip.Addr][]netip.Addr{
		{}:                                {a, b, c},
		b:                                 {b, a, c},
		c:                                 {c, a, b},
		netip.MustParseAddr("fe80::dead"): {a, b, c},
	} {
		if got := linkLocal(all, last); !slices.Equal(got, want) {
			t.Errorf("after %v: %v, want %v", last, got, want)
		}
	}
}

// An interface that is removed and made again has another index.
func TestOpenAnotherInterfaceOfTheName(t *testing.T) {
	needs.Netns(t)
	const made = "ip link add lan0 type veth peer name p; ip link set p up; ip link set lan0 addrgenmode none up; ip addr add fe80::1/64 dev lan0 nodad"
	l := NewLink("lan0", netip.Addr{})
	for range 2 {
		ip(t, made)
		c, err := l.Open()
		if err != nil {
			t.Error(err)
			return
		}
		if err := c.Send(Message(Parameters{}, State{}, false)); err != nil {
			t.Error(err)
		}
		c.Close()
		ip(t, "ip link del lan0")
	}
}

// A router with two link-local addresses advertises as soon as one of them is
// usable, and keeps to it when the other one is, too.
func TestOpenSkipsTentativeAddress(t *testing.T) {
	needs.Netns(t)
	// fe80::2 stays tentative: its duplicate address detection takes minutes.
	ip(t, `ip link add lan0 type veth peer name p; ip link set p up
		ip link set lan0 addrgenmode none up
		echo 1000 >/proc/sys/net/ipv6/conf/lan0/dad_transmits
		ip addr add fe80::2/64 dev lan0`)
	l := NewLink("lan0", netip.Addr{})
	opens := func() string {
		c, err := l.Open()
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		if err := c.Send(Message(Parameters{}, State{}, false)); err != nil {
			return err.Error()
		}
		return c.(*socket).own.String()
	}
	if got := opens(); got == "fe80::2" {
		t.Error("a tentative address is used")
	}
	ip(t, "ip addr add fe80::ff:fe00:3/64 dev lan0 nodad")
	if got := opens(); got != "fe80::ff:fe00:3" {
		t.Errorf("from the usable address: %s", got)
	}
	ip(t, "ip addr add fe80::1/64 dev lan0 nodad")
	if got := opens(); got != "fe80::ff:fe00:3" {
		t.Errorf("a reopened socket has another address: %s", got)
	}
	ip(t, "ip addr del fe80::ff:fe00:3/64 dev lan0")
	if got := opens(); got != "fe80::1" {
		t.Errorf("after its address was removed: %s", got)
	}
	// The address that a pair of routers shares.
	l = NewLink("lan0", netip.MustParseAddr("fe80::64"))
	if _, err := l.State(); !errors.Is(err, ErrStandby) {
		t.Errorf("without the shared address: %v", err)
	}
	ip(t, "ip addr add fe80::64/64 dev lan0 nodad")
	if got := opens(); got != "fe80::64" {
		t.Errorf("with the shared address: %s", got)
	}
}

// After a renumbering the address in the former prefix is deprecated until it expires.
// Its prefix is not announced as one to use.
func TestPrefixOfAnAddressThatEnds(t *testing.T) {
	needs.Netns(t)
	ip(t, `ip link add lan0 type veth peer name p; ip link set p up; ip link set lan0 up
		ip addr add fe80::1/64 dev lan0 nodad
		ip addr add 2001:db8:1::1/64 dev lan0 nodad valid_lft 600 preferred_lft 0
		ip addr add 2001:db8:2::1/64 dev lan0 nodad valid_lft 600 preferred_lft 300
		ip addr add 2001:db8:3::1/64 dev lan0 nodad preferred_lft 0
		ip addr add 2001:db8:4::1/64 dev lan0 nodad`)
	s, err := NewLink("lan0", netip.Addr{}).State()
	if err != nil {
		t.Fatal(err)
	}
	got := Parameters{}.announced(s)
	slices.SortFunc(got, netip.Prefix.Compare)
	want := []netip.Prefix{netip.MustParsePrefix("2001:db8:2::/64"), netip.MustParsePrefix("2001:db8:3::/64"), netip.MustParsePrefix("2001:db8:4::/64")}
	if !slices.Equal(got, want) {
		t.Errorf("announces %v, want %v; addresses %v", got, want, s.Addresses)
	}
}

// ip runs a script of sh with the program ip.
func ip(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}
