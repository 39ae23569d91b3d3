package advertise

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
)

var testState = State{
	Name: "lan0", MTU: 1500, Hardware: net.HardwareAddr{2, 0, 0, 0, 0, 1},
	Addresses: []netip.Prefix{netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8:1::1/64"), netip.MustParsePrefix("2001:db8:1::2/64"), netip.MustParsePrefix("2001:db8:9::1/128")},
}

func packed(t testing.TB, m *ndp.RouterAdvertisement) string {
	t.Helper()
	b, err := ndp.MarshalMessage(m)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// The bytes are written by hand from RFC 4861 section 4.2 and 4.6, RFC 8781
// section 4 and RFC 8106 section 5.1.
func TestMessageOnTheWire(t *testing.T) {
	p := Parameters{
		PREF64: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")}, Lifetime: 30 * time.Minute,
		RDNSS: []netip.Addr{netip.MustParseAddr("2001:db8:1::1")},
	}
	header := func(lifetime string) string { return "86000000" + "40" + "00" + lifetime + "00000000" + "00000000" }
	const (
		source = "0101" + "020000000001"
		mtu    = "0501" + "0000" + "000005dc"
		prefix = "0304" + "40c0" + "00001518" + "00000a8c" + "00000000" + "20010db8000100000000000000000000"
	)
	want := header("0708") + source + mtu + prefix +
		"2602" + "0708" + "0064ff9b0000000000000000" +
		"1903" + "0000" + "00000708" + "20010db8000100000000000000000001"
	if got := packed(t, Message(p, testState, false)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The final one withdraws router, PREF64 and resolver, not the link's prefix.
	want = header("0000") + source + mtu + prefix +
		"2602" + "0000" + "0064ff9b0000000000000000" +
		"1903" + "0000" + "00000000" + "20010db8000100000000000000000001"
	if got := packed(t, Message(p, testState, true)); got != want {
		t.Errorf("final: got  %s\nwant %s", got, want)
	}
}

func TestPREF64OfEveryLength(t *testing.T) {
	for p, want := range map[string]string{
		"2001:db8:122:344::/96": "2602070820010db80122034400000000",
		"2001:db8:122:344::/64": "2602070920010db80122034400000000",
		"2001:db8:122:300::/56": "2602070a20010db80122030000000000",
		"2001:db8:122::/48":     "2602070b20010db80122000000000000",
		"2001:db8:100::/40":     "2602070c20010db80100000000000000",
		"2001:db8::/32":         "2602070d20010db80000000000000000",
	} {
		m := Message(Parameters{PREF64: []netip.Prefix{netip.MustParsePrefix(p)}, Lifetime: 1800 * time.Second}, State{}, false)
		if got := packed(t, m); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s, want %s at the end", p, got, want)
		}
	}
	for d, want := range map[time.Duration]time.Duration{
		0: 0, time.Second: 8 * time.Second, 8 * time.Second: 8 * time.Second, 1801 * time.Second: 1808 * time.Second, 20 * time.Hour: 65528 * time.Second,
	} {
		if got := scaled(d); got != want {
			t.Errorf("lifetime %v is scaled to %v, want %v", d, got, want)
		}
	}
}

func TestResolversOfALink(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tc := range []struct {
		name             string
		configured, want []netip.Addr
	}{
		{"a link-local one of this link", []netip.Addr{addr("fe80::1%lan0")}, []netip.Addr{addr("fe80::1")}},
		{"a link-local one of another link", []netip.Addr{addr("fe80::1%lan1")}, nil},
		{"any address: the link's own", []netip.Addr{addr("::")}, []netip.Addr{addr("2001:db8:1::1")}},
		{"loopback and IPv4", []netip.Addr{addr("::1"), addr("192.0.2.1")}, nil},
		{"too many", slices.Repeat([]netip.Addr{addr("2001:db8::1")}, 20), slices.Repeat([]netip.Addr{addr("2001:db8::1")}, maxRDNSS)},
	} {
		if got := testState.resolvers(tc.configured); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// What is configured without measure still fits the smallest MTU.
func TestLargestMessageFits(t *testing.T) {
	p := Parameters{Lifetime: time.Hour}
	for i := range 100 {
		p.Prefixes = append(p.Prefixes, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 7: byte(i)}), 64))
		p.RDNSS = append(p.RDNSS, netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}))
	}
	for range 8 {
		p.PREF64 = append(p.PREF64, netip.MustParsePrefix("64:ff9b::/96"))
	}
	if n := len(packed(t, Message(p, testState, false, p.Prefixes[50:50+maxStale]...))) / 2; n > minMTU-40 {
		t.Errorf("%d bytes", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range []ndp.Message{Message(Parameters{Lifetime: time.Hour, PREF64: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")}}, testState, false), &ndp.RouterSolicitation{}} {
		b, _ := ndp.MarshalMessage(m)
		f.Add(b)
	}
	ours := Message(Parameters{Lifetime: time.Hour, PREF64: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")}}, testState, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parse(b, netip.MustParseAddr("fe80::2"))
		if !ok {
			return
		}
		if ra, isRA := m.(*ndp.RouterAdvertisement); isRA {
			if n := len(disagreements(ours, ra)); n > maxDisagreements {
				t.Errorf("%d disagreements", n)
			}
		}
	})
}
