package siit_test

import (
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// Hairpinning, RFC 7757 section 4: two hosts, A and B, of one table reach each
// other by their IPv4 addresses.

var (
	hostA4, hostA6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:aaaa::a")
	hostB4, hostB6 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8:bbbb::b")
	// In the IPv6 network a host appears to the other one by RFC 6052.
	hostA64, hostB64 = embed(pref64, hostA4), embed(pref64, hostB4)
)

func hairpinRig(t *testing.T, mode siit.Hairpin) *rig {
	t.Helper()
	cfg := routerConfig(eam("192.0.2.1/32", "2001:db8:aaaa::a/128"), eam("192.0.2.2/32", "2001:db8:bbbb::b/128"))
	cfg.Mapping.Hairpin = mode
	return newRig(t, cfg)
}

// wantAddresses compares the addresses of out, and those of the packet that it
// quotes if there are four.
func wantAddresses(t *testing.T, out []byte, want ...netip.Addr) {
	t.Helper()
	p := mustParse(t, out)
	got := []netip.Addr{p.src, p.dst}
	if len(want) == 4 {
		q := mustParseQuote(t, out)
		got = append(got, q.src, q.dst)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("addresses %v, want %v", got, want)
			return
		}
	}
}

// The packets: A sends to B, and what the IPv4 network returns.
func fromA6() []byte {
	return ip6{src: hostA6, dst: hostB64, payload: udp(hostA6, hostB64, data(40))}.bytes()
}

func fromA4() []byte {
	return ip4{src: hostA4, dst: hostB4, payload: udp(hostA4, hostB4, data(40))}.bytes()
}

func TestHairpinSimple(t *testing.T) {
	r := hairpinRig(t, siit.HairpinSimple)
	t.Run("6to4", func(t *testing.T) {
		wantAddresses(t, r.run(t, fromA6(), siit.Offload{}).one(t), hostA4, hostB4)
	})
	t.Run("(1) back again", func(t *testing.T) {
		wantAddresses(t, r.run(t, fromA4(), siit.Offload{}).one(t), hostA64, hostB6)
	})
	t.Run("(1) from the internet", func(t *testing.T) {
		wantAddresses(t, r.run(t, ip4{src: remote4, dst: hostB4, payload: udp(remote4, hostB4, data(40))}.bytes(), siit.Offload{}).one(t), remote6, hostB6)
	})
	// B finds the port closed. Its error reaches the translator as IPv6, goes
	// out as IPv4, and comes back.
	t.Run("(2) (3) ICMP error of the other host", func(t *testing.T) {
		quote := ip4{src: hostA4, dst: hostB4, payload: udp(hostA4, hostB4, data(40))}.bytes()
		in := ip4{src: hostB4, dst: hostA4, proto: protoICMP, payload: icmp4(3, 3, 0, quote)}.bytes()
		wantAddresses(t, r.run(t, in, siit.Offload{}).one(t), hostB64, hostA6, hostA6, hostB64)
	})
	t.Run("(2) ICMP error of a router on the way", func(t *testing.T) {
		quote := ip4{src: hostA4, dst: hostB4, payload: udp(hostA4, hostB4, data(40))}.bytes()
		in := ip4{src: remote4, dst: hostA4, proto: protoICMP, payload: icmp4(11, 0, 0, quote)}.bytes()
		wantAddresses(t, r.run(t, in, siit.Offload{}).one(t), remote6, hostA6, hostA6, hostB64)
	})
	t.Run("(3) only if it is the same node", func(t *testing.T) {
		// A error whose source is in the table but is not the quoted
		// destination: rule 3 does not apply, its source has an entry.
		quote := ip4{src: hostA4, dst: remote4, payload: udp(hostA4, remote4, data(40))}.bytes()
		in := ip4{src: hostB4, dst: hostA4, proto: protoICMP, payload: icmp4(11, 0, 0, quote)}.bytes()
		wantAddresses(t, r.run(t, in, siit.Offload{}).one(t), hostB6, hostA6, hostA6, remote6)
	})
}

func TestHairpinOff(t *testing.T) {
	r := hairpinRig(t, siit.HairpinOff)
	wantAddresses(t, r.run(t, fromA6(), siit.Offload{}).one(t), hostA4, hostB4)
	wantAddresses(t, r.run(t, fromA4(), siit.Offload{}).one(t), hostA6, hostB6)
}
