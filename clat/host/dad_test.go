package host

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// detect follows a detection to its end.
func detect(t *testing.T, k *Host, link int, a netip.Addr) error {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		wait, err := k.Detect(link, "wlan0", a)
		if wait == 0 {
			return err
		}
		time.Sleep(wait)
	}
	return errors.New("the detection does not end")
}

// TestDetect looks for addresses that nobody has, that another host has, and that
// another host is about to have. The link itself has none of them.
func TestDetect(t *testing.T) {
	k := enterNetns(t)
	l, peer := addVeth(t, k, "wlan0", "lan0")
	index := l.Attrs().Index
	for _, link := range []string{"wlan0", "lan0"} {
		waitLinkLocal(t, k, byName(t, k, link).Attrs().Index)
	}
	free, taken, later := netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("2001:db8:1::3")
	addAddr(t, k, peer, taken.String()+"/64", unix.IFA_F_NODAD)
	defer k.EndDetect(index)

	began := time.Now()
	if err := detect(t, k, index, free); err != nil {
		t.Errorf("a free address: %v", err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("RETRANS_TIMER is a second, the detection took %v", took)
	}
	if wait, err := k.Detect(index, "wlan0", free); wait != 0 || err != nil {
		t.Errorf("once more: %v, %v", wait, err)
	}
	if err := detect(t, k, index, taken); !errors.Is(err, plan.ErrAddrInUse) {
		t.Errorf("an address of another host: %v", err)
	}
	if err := detect(t, k, index, later); err != nil {
		t.Errorf("another free address: %v", err)
	}
	addAddr(t, k, peer, later.String()+"/64", 0) // its DAD begins
	var err error
	for end := time.Now().Add(time.Minute); err == nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, err = k.Detect(index, "wlan0", later)
	}
	if !errors.Is(err, plan.ErrAddrInUse) {
		t.Errorf("an address that another host is about to have: %v", err)
	}
	for _, a := range observe(t, k).Addrs {
		if a.Link == index && a.Prefix.Addr().IsGlobalUnicast() {
			t.Errorf("the link has %s", a.Prefix)
		}
	}
}

// waitLinkLocal waits until DAD of the link-local address is over.
func waitLinkLocal(t *testing.T, k *Host, link int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, a := range observe(t, k).Addrs {
			if a.Link == link && a.Prefix.Addr().IsLinkLocalUnicast() && a.Prefix.Addr().Is6() && !a.Tentative {
				return
			}
		}
	}
	t.Fatal("no link-local address")
}

// TestClaims is about messages of others (RFC 4862 section 5.4.3 and 5.4.4).
func TestClaims(t *testing.T) {
	a, other := netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:1::2")
	none, someone := netip.IPv6Unspecified(), netip.MustParseAddr("fe80::1")
	own, foreign := nonce{1, 2, 3}, nonce{4, 5, 6}
	advertisement := func(a netip.Addr) []byte {
		b := solicitation(a, foreign)[40:64]
		b[0] = typeNeighborAdvertisement
		return b
	}
	for _, c := range []struct {
		name    string
		source  netip.Addr
		message []byte
		want    bool
	}{
		{"advertisement", someone, advertisement(a), true},
		{"advertisement of another address", someone, advertisement(other), false},
		{"solicitation in DAD", none, solicitation(a, foreign)[40:], true},
		{"solicitation in DAD without nonce", none, solicitation(a, foreign)[40:64], true},
		{"own solicitation", none, solicitation(a, own)[40:], false},
		{"address resolution", someone, solicitation(a, foreign)[40:], false},
		{"solicitation of another address", none, solicitation(other, foreign)[40:], false},
		{"cut off", none, solicitation(a, foreign)[40:63], false},
		{"empty", none, nil, false},
		{"option of length 0", none, append(solicitation(a, own)[40:64:64], optNonce, 0, 1, 2, 3, 0, 0, 0), true},
		{"option cut off", none, append(solicitation(a, own)[40:64:64], optNonce, 2, 1, 2, 3, 0, 0, 0), true},
	} {
		if got := own.claims(a, c.source, c.message); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
