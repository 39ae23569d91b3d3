package engine

import (
	"testing"

	"tnat64d/siit"
)

func TestProtocolOf(t *testing.T) {
	v4 := func(protocol byte, rest ...byte) []byte {
		return append(append([]byte{0x45, 9: protocol}, make([]byte, 10)...), rest...)
	}
	v6 := func(next byte, rest ...byte) []byte {
		return append(append([]byte{0x60, 6: next}, make([]byte, 33)...), rest...)
	}
	for _, tt := range []struct {
		name   string
		packet []byte
		want   Protocol
	}{
		{"TCP", v4(6), TCP},
		{"UDP", v6(17), UDP},
		{"UDP fragment", v6(44, 17, 0, 0, 0, 0, 0, 0, 0), UDP},
		{"echo reply", v4(1, 0), ICMP},
		{"unreachable", v4(1, 3), ICMPError},
		{"time exceeded", v4(1, 11), ICMPError},
		{"parameter problem", v4(1, 12), ICMPError},
		{"echo request of IPv6", v6(58, 128), ICMP},
		{"packet too big", v6(58, 2), ICMPError},
		{"ICMP without a byte", v4(1), ICMP},
		{"ESP", v6(50), Other},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := protocolOf([]siit.Packet{{Buf: tt.packet}}); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	if got := protocolOf(nil); got != Other {
		t.Errorf("nothing: %s", got)
	}
}
