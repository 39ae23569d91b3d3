package siit_test

import (
	"testing"

	"tnat64d/siit"
)

// TOS and Traffic Class of translated packets are 0 if that is configured, each in
// its own direction: of whole packets, fragments, packets that are split, and ICMP
// errors, but not of what these quote (RFC 7915 sections 4.1 and 5.1).
func TestZeroTOS(t *testing.T) {
	const class = 0xb9
	quoted6 := ip6{src: clat6, dst: remote6, tc: class, payload: udp(clat6, remote6, data(8))}.bytes()
	to6 := map[string][]byte{
		"packet":     ip4{tos: class, payload: udp(clat4, remote4, data(8))}.bytes(),
		"split":      ip4{tos: class, payload: udp(clat4, remote4, data(1400))}.bytes(),
		"ICMP error": ip4{tos: class, proto: protoICMP, payload: icmp4(3, 1, 0, ip4{src: remote4, dst: clat4, tos: class, payload: udp(remote4, clat4, data(8))}.bytes())}.bytes(),
	}
	to4 := map[string][]byte{
		"packet":     ip6{tc: class, payload: udp(remote6, clat6, data(8))}.bytes(),
		"ICMP error": ip6{tc: class, proto: protoICMPv6, payload: icmp6(remote6, clat6, 1, 0, 0, quoted6)}.bytes(),
	}
	for _, zeroClass := range []bool{false, true} {
		for _, zeroTOS := range []bool{false, true} {
			cfg := hostConfig()
			cfg.ZeroTrafficClass, cfg.ZeroTOS = zeroClass, zeroTOS
			r := newRig(t, cfg)
			check := func(name string, in []byte, zero bool) {
				t.Helper()
				o := r.run(t, in, siit.Offload{})
				if o.verdict != siit.Translated {
					t.Fatalf("%s: %v", name, o)
				}
				want := uint8(class)
				if zero {
					want = 0
				}
				for _, p := range o.packets {
					if got := mustParse(t, p.Bytes()).tos; got != want {
						t.Errorf("%s: %#x, want %#x", name, got, want)
					}
				}
			}
			for name, in := range to6 {
				check("IPv4 to IPv6, "+name, in, zeroClass)
			}
			for name, in := range to4 {
				check("IPv6 to IPv4, "+name, in, zeroTOS)
			}
			quote := r.run(t, to4["ICMP error"], siit.Offload{}).one(t)[20+8:]
			if quote[1] != class {
				t.Errorf("the TOS of the quoted packet is %#x", quote[1])
			}
		}
	}
}
