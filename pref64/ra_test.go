package pref64

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
)

var (
	router1 = netip.MustParseAddr("fe80::1")
	router2 = netip.MustParseAddr("fe80::2")
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// raHeader is a Router Advertisement without options: hop limit 64, router
// lifetime 1800 s.
const raHeader = "86000000 40000708 00000000 00000000"

// pref64Options are test options for each prefix length (RFC 8781 section 4).
var pref64Options = []struct {
	bytes  string
	want   string // prefix and lifetime
	reason Reason
}{
	{"2602070820010db80122034400000000", "2001:db8:122:344::/96 30m0s", None},
	{"2602fff920010db80122034400000000", "2001:db8:122:344::/64 18h12m8s", None},
	{"2602025a20010db80122030000000000", "2001:db8:122:300::/56 10m0s", None},
	{"2602000b20010db80122000000000000", "2001:db8:122::/48 8s", None},
	{"2602000420010db80100000000000000", "2001:db8:100::/40 0s", None},
	{"2602070d20010db80000000000000000", "2001:db8::/32 30m0s", None},
	{"260207080064ff9b0000000000000000", "64:ff9b::/96 30m0s", None},
	{"2602070e20010db80122034400000000", "", BadPLC},
	{"2602070f20010db80122034400000000", "", BadPLC},
	{"2603070820010db801220344000000000000000000000000", "", BadLength},
	{"2601070820010db8", "", BadLength},

	// Bits beyond the prefix length are cleared.
	{"2602070d20010db8ffffffffffffffff", "2001:db8::/32 30m0s", None},
	{"2602070920010db801220344ffffffff", "2001:db8:122:344::/64 30m0s", None},

	{"26020708fe8000000000000000000000", "", BadPrefix},
	{"26020708ff0e00000000000000000000", "", BadPrefix},
	{"26020708000000000000000000000000", "", BadPrefix},
	{"2602070800000000000000000000ffff", "", BadPrefix},
}

// TestPREF64Option reads the option of RFC 8781 section 4.
func TestPREF64Option(t *testing.T) {
	for _, c := range pref64Options {
		t.Run(c.bytes, func(t *testing.T) {
			// The option between two others, which must not suffer.
			mtu := "05010000 000005dc"
			ra, reason := ParseRA(router1, 255, unhex(t, raHeader+"26020708 0064ff9b 00000000 00000000"+c.bytes+mtu))
			if reason != None {
				t.Fatalf("the whole RA was refused: %v", reason)
			}
			if ra.MTU != 1500 {
				t.Errorf("the option after it was lost: MTU %d", ra.MTU)
			}
			if len(ra.PREF64) == 0 || ra.PREF64[0].Prefix.String() != "64:ff9b::/96" {
				t.Fatalf("the option before it was lost: %v", ra.PREF64)
			}
			if c.reason != None {
				if len(ra.PREF64) != 1 || len(ra.Ignored) != 1 || ra.Ignored[0].Reason != c.reason {
					t.Errorf("got %v, ignored %v; want reason %v", ra.PREF64, ra.Ignored, c.reason)
				}
				return
			}
			if len(ra.PREF64) != 2 || len(ra.Ignored) != 0 {
				t.Fatalf("got %v, ignored %v", ra.PREF64, ra.Ignored)
			}
			p := ra.PREF64[1]
			if got := p.Prefix.String() + " " + p.Lifetime.String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestParseRARefuses covers what makes the whole message invalid (RFC 4861 section
// 6.1.2).
func TestParseRARefuses(t *testing.T) {
	good := raHeader + "26020708 0064ff9b 00000000 00000000"
	for _, c := range []struct {
		name string
		src  string
		hops int
		msg  string
		want Reason
	}{
		{"good", "fe80::1", 255, good, None},
		{"good with zone", "fe80::1%eth0", 255, good, None},
		{"no options", "fe80::1", 255, raHeader, None},
		{"reserved flags and unknown option", "fe80::1", 255, "86000000 40ff0708 00000000 00000000 fe010000 00000000", None},
		{"global source", "2001:db8::1", 255, good, NotLinkLocal},
		{"unspecified source", "::", 255, good, NotLinkLocal},
		{"IPv4-mapped link-local source", "::ffff:169.254.0.1", 255, good, NotLinkLocal},
		{"IPv4 source", "169.254.0.1", 255, good, NotLinkLocal},
		{"multicast source", "ff02::1", 255, good, NotLinkLocal},
		{"routed", "fe80::1", 254, good, HopLimit},
		{"hop limit unknown", "fe80::1", 0, good, HopLimit},
		{"code 1", "fe80::1", 255, "8601" + good[4:], BadCode},
		{"other type", "fe80::1", 255, "8700" + good[4:], NotRA},
		{"empty", "fe80::1", 255, "", Truncated},
		{"15 bytes", "fe80::1", 255, "86000000 40000708 00000000 000000", Truncated},
		{"option of length 0", "fe80::1", 255, good + "26000708 00000000", OptionLengthZero},
		{"unknown option of length 0", "fe80::1", 255, good + "fe00", OptionLengthZero},
		{"option beyond the end", "fe80::1", 255, good + "26020708 0064ff9b", OptionTruncated},
		{"one byte left", "fe80::1", 255, good + "26", OptionTruncated},
		{"padding of 2 bytes", "fe80::1", 255, good + "0000", OptionLengthZero},
	} {
		t.Run(c.name, func(t *testing.T) {
			ra, reason := ParseRA(netip.MustParseAddr(c.src), c.hops, unhex(t, c.msg))
			if reason != c.want {
				t.Fatalf("reason %v, want %v", reason, c.want)
			}
			if reason != None && (ra.Router.IsValid() || ra.PREF64 != nil) {
				t.Errorf("a refused RA has content: %+v", ra)
			}
			if reason == None && ra.Router != router1 {
				t.Errorf("router %v, want %v", ra.Router, router1)
			}
		})
	}
}

// TestParseRAFields compares with an independent encoder.
func TestParseRAFields(t *testing.T) {
	msg, err := ndp.MarshalMessage(&ndp.RouterAdvertisement{
		RouterLifetime: 30 * time.Minute,
		Options: []ndp.Option{
			&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: []byte{2, 0, 0, 0, 0, 1}},
			ndp.NewMTU(1400),
			&ndp.PrefixInformation{
				Prefix: netip.MustParseAddr("2001:db8:1::"), PrefixLength: 64, OnLink: true,
				AutonomousAddressConfiguration: true, ValidLifetime: time.Hour, PreferredLifetime: 30 * time.Minute,
			},
			&ndp.PrefixInformation{
				Prefix: netip.MustParseAddr("2001:db8:2::"), PrefixLength: 64,
				ValidLifetime: ndp.Infinity, PreferredLifetime: ndp.Infinity,
			},
			&ndp.PREF64{Prefix: netip.MustParsePrefix("2001:db8:64::/96"), Lifetime: 10 * time.Minute},
			&ndp.RecursiveDNSServer{Lifetime: time.Hour, Servers: []netip.Addr{netip.MustParseAddr("2001:db8::53")}},
			&ndp.PREF64{Prefix: netip.MustParsePrefix("2001:db8:65::/48"), Lifetime: 0},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ra, reason := ParseRA(router1, 255, msg)
	if reason != None {
		t.Fatal(reason)
	}
	if ra.RouterLifetime != 30*time.Minute || ra.MTU != 1400 || len(ra.Ignored) != 0 {
		t.Errorf("got %+v", ra)
	}
	if want := []PrefixInfo{
		{netip.MustParsePrefix("2001:db8:1::/64"), true, true, time.Hour, 30 * time.Minute},
		{netip.MustParsePrefix("2001:db8:2::/64"), false, false, Infinite, Infinite},
	}; !slices.Equal(ra.Prefixes, want) {
		t.Errorf("prefixes %v, want %v", ra.Prefixes, want)
	}
	if want := []PREF64{
		{netip.MustParsePrefix("2001:db8:64::/96"), 10 * time.Minute},
		{netip.MustParsePrefix("2001:db8:65::/48"), 0},
	}; !slices.Equal(ra.PREF64, want) {
		t.Errorf("PREF64 %v, want %v", ra.PREF64, want)
	}
}

// TestOtherOptionsRefused covers the bounds of the MTU option (RFC 4861 section
// 6.3.4) and the lengths of the other options that are read.
func TestOtherOptionsRefused(t *testing.T) {
	pio := "03043fc0 00000e10 00000e10 00000000 20010db8 00010000 00000000 00000000"
	for _, c := range []struct {
		name, opt string
		want      Reason
		mtu       int
	}{
		{"MTU 1280", "05010000 00000500", None, 1280},
		{"MTU 1279", "05010000 000004ff", BadMTU, 0},
		{"MTU 0", "05010000 00000000", BadMTU, 0},
		{"MTU huge", "05010000 ffffffff", None, 1<<31 - 1},
		{"MTU option of 16 bytes", "05020000 00000500 00000000 00000000", BadLength, 0},
		{"PIO of length 63", pio, None, 0},
		{"PIO of length 129", "030481" + pio[6:], BadPrefix, 0},
		{"PIO of 8 bytes", "03013fc0 00000e10", BadLength, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			ra, reason := ParseRA(router1, 255, unhex(t, raHeader+c.opt))
			if reason != None {
				t.Fatalf("the whole RA was refused: %v", reason)
			}
			got := None
			if len(ra.Ignored) > 0 {
				got = ra.Ignored[0].Reason
			}
			if got != c.want || ra.MTU != c.mtu {
				t.Errorf("reason %v, MTU %d; want %v, %d", got, ra.MTU, c.want, c.mtu)
			}
		})
	}
}

// FuzzParseRA: whatever comes in, what comes out is usable, and a strict
// parser that accepts a message reads the same prefixes from it.
func FuzzParseRA(f *testing.F) {
	for _, c := range pref64Options {
		f.Add(unhex(f, raHeader+c.bytes))
	}
	f.Add(unhex(f, raHeader+"05010000 00000578 03044040 00000e10 00000e10 00000000 20010db8 00010000 00000000 00000000"))
	f.Add(unhex(f, raHeader+"19030000 00000708 20010db8 00000000 00000000 00000053"))
	f.Add(unhex(f, raHeader+"2600"))
	f.Add(bytes.Repeat([]byte{0x86, 0}, 40))
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := bytes.Clone(msg)
		ra, reason := ParseRA(router1, 255, msg)
		if !bytes.Equal(before, msg) {
			t.Fatal("the message was written to")
		}
		if reason >= NumReasons || reason.String() == "" {
			t.Fatalf("reason %d has no name", reason)
		}
		if reason != None {
			return
		}
		if n := len(ra.PREF64) + len(ra.Prefixes) + len(ra.RDNSS) + len(ra.Ignored); n > len(msg)/8 {
			t.Fatalf("%d options in %d bytes", n, len(msg))
		}
		for _, p := range ra.PREF64 {
			if q, err := Check(p.Prefix); err != nil || q != p.Prefix {
				t.Fatalf("prefix %v: %v", p.Prefix, err)
			}
			if p.Lifetime < 0 || p.Lifetime > 65528*time.Second || p.Lifetime%(8*time.Second) != 0 {
				t.Fatalf("lifetime %v", p.Lifetime)
			}
		}
		for _, d := range ra.RDNSS {
			if len(d.Servers) == 0 || d.Lifetime < 0 || d.Lifetime > Infinite {
				t.Fatalf("RDNSS %+v", d)
			}
		}
		if ra.MTU != 0 && ra.MTU < 1280 {
			t.Fatalf("MTU %d", ra.MTU)
		}

		m, err := ndp.ParseMessage(msg)
		if err != nil {
			return
		}
		var want []PREF64
		for _, o := range m.(*ndp.RouterAdvertisement).Options {
			if o, ok := o.(*ndp.PREF64); ok {
				if p, err := Check(o.Prefix); err == nil {
					want = append(want, PREF64{p, o.Lifetime})
				}
			}
		}
		if !slices.Equal(ra.PREF64, want) {
			t.Fatalf("got %v, ndp reads %v", ra.PREF64, want)
		}
	})
}
