package siit_test

import (
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// Nothing from outside comes from the CLAT's own address, or stands behind
// PREF64 for an address of the host's own networks.
func TestSourcesOfTheHost(t *testing.T) {
	cfg := hostConfig()
	cfg.LocalIPv4 = []netip.Prefix{
		netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("10.9.9.9/32"),
		netip.MustParsePrefix("172.17.5.0/24"), netip.MustParsePrefix("198.18.7.1/24"), // inside another; host bits set
	}
	guarded, plain := newRig(t, cfg), newRig(t, hostConfig())
	for src, want := range map[string]siit.Reason{
		"172.16.255.255": siit.None, "172.17.0.0": siit.SourceLocalNetwork, "172.17.0.2": siit.SourceLocalNetwork,
		"172.17.5.1": siit.SourceLocalNetwork, "172.17.255.255": siit.SourceLocalNetwork, "172.18.0.0": siit.None,
		"10.9.9.9": siit.SourceLocalNetwork, "10.9.9.8": siit.None, "10.9.9.10": siit.None,
		"198.18.7.200": siit.SourceLocalNetwork, "198.18.8.1": siit.None,
		"192.168.1.1": siit.None, "100.64.0.1": siit.None, "198.51.100.7": siit.None,
		"127.0.0.1": siit.SourceIllegal, "169.254.0.1": siit.SourceIllegal, "169.254.255.255": siit.SourceIllegal,
		"224.0.0.1": siit.SourceIllegal, "255.255.255.255": siit.SourceIllegal, "0.0.0.1": siit.SourceIllegal,
		"192.0.0.1": siit.SourceIllegal, "192.0.0.7": siit.SourceIllegal, "192.0.0.8": siit.None,
		"169.253.255.255": siit.None, "169.255.0.0": siit.None,
	} {
		from := embed(pref64, netip.MustParseAddr(src))
		for name, in := range map[string][]byte{
			"UDP":        ip6{src: from, payload: udp(from, clat6, data(8))}.bytes(),
			"ICMP error": ip6{src: from, proto: protoICMPv6, payload: icmp6(from, clat6, 3, 0, 0, ip6{src: clat6, dst: remote6, payload: udp(clat6, remote6, data(8))}.bytes())}.bytes(),
		} {
			check := func(o outcome, want siit.Reason) {
				t.Helper()
				if want == siit.None && o.verdict != siit.Translated || want != siit.None && (o.verdict != siit.Drop || o.reason != want) {
					t.Errorf("%s from %s: %v, want %v", name, src, o, want)
				}
			}
			check(guarded.run(t, in, siit.Offload{}), want)
			without := want
			if without == siit.SourceLocalNetwork {
				without = siit.None
			}
			check(plain.run(t, in, siit.Offload{}), without)
		}
	}
	for _, proto := range []uint8{protoUDP, protoESP, protoICMPv6} {
		in := ip6{src: clat6, proto: proto, payload: map[uint8][]byte{
			protoUDP: udp(clat6, clat6, data(8)), protoESP: data(40), protoICMPv6: icmp6(clat6, clat6, 128, 0, 0, data(8)),
		}[proto]}.bytes()
		plain.run(t, in, siit.Offload{}).dropped(t, siit.SourceIllegal)
	}
}

// Networks behind a router of the host: nothing comes from there through the PLAT but
// ICMP errors, which routers on the way may send from the same private network.
func TestSourcesBehindARouterOfTheHost(t *testing.T) {
	cfg := hostConfig()
	cfg.RoutedIPv4 = []netip.Prefix{netip.MustParsePrefix("10.5.0.0/16")}
	for src, want := range map[string]siit.Reason{"10.5.1.1": siit.SourceRoutedNetwork, "10.6.0.1": siit.None} {
		from := embed(pref64, netip.MustParseAddr(src))
		message := ip6{src: from, proto: protoICMPv6, payload: icmp6(from, clat6, 3, 0, 0, ip6{src: clat6, dst: remote6, payload: udp(clat6, remote6, data(8))}.bytes())}.bytes()
		if o := newRig(t, cfg).run(t, message, siit.Offload{}); o.verdict != siit.Translated {
			t.Errorf("ICMP error from %s: %v", src, o)
		}
		for name, in := range map[string][]byte{
			"UDP":  ip6{src: from, payload: udp(from, clat6, data(8))}.bytes(),
			"echo": ip6{src: from, proto: protoICMPv6, payload: icmp6(from, clat6, 128, 0, 0, data(8))}.bytes(),
		} {
			o := newRig(t, cfg).run(t, in, siit.Offload{})
			if want == siit.None && o.verdict != siit.Translated || want != siit.None && (o.verdict != siit.Drop || o.reason != want) {
				t.Errorf("%s from %s: %v, want %v", name, src, o, want)
			}
		}
	}
}

// Nor does an explicit mapping of a host behind this one let anybody outside send in
// that host's name.
func TestMappedSourcesOfTheHost(t *testing.T) {
	cfg := hostConfig()
	guest, outside := netip.MustParseAddr("2001:db8:77::2"), netip.MustParseAddr("2001:db8:77::3")
	cfg.Mapping.EAM = []siit.EAM{
		{IPv4: netip.MustParsePrefix("172.17.0.2/32"), IPv6: netip.PrefixFrom(guest, 128)},
		{IPv4: netip.MustParsePrefix("10.5.0.3/32"), IPv6: netip.PrefixFrom(outside, 128)},
	}
	cfg.LocalIPv4 = []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}
	cfg.RoutedIPv4 = []netip.Prefix{netip.MustParsePrefix("10.5.0.0/16")}
	newRig(t, cfg).run(t, ip6{src: guest, payload: udp(guest, clat6, data(8))}.bytes(), siit.Offload{}).dropped(t, siit.SourceLocalNetwork)
	for _, src := range []netip.Addr{outside, remote6} { // and replies to the guest
		for _, dst := range []netip.Addr{clat6, guest} {
			if o := newRig(t, cfg).run(t, ip6{src: src, dst: dst, payload: udp(src, dst, data(8))}.bytes(), siit.Offload{}); o.verdict != siit.Translated {
				t.Errorf("from %s to %s: %v", src, dst, o)
			}
		}
	}
}

func TestLocalIPv4IsChecked(t *testing.T) {
	for _, bad := range []netip.Prefix{{}, netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("::ffff:10.0.0.0/104")} {
		cfg := hostConfig()
		cfg.LocalIPv4 = []netip.Prefix{bad}
		if _, err := siit.New(cfg); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	cfg := hostConfig()
	cfg.LocalIPv4 = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	in := ip6{src: remote6, payload: udp(remote6, clat6, data(8))}.bytes()
	newRig(t, cfg).run(t, in, siit.Offload{}).dropped(t, siit.SourceLocalNetwork)
}
