package tun

import (
	"encoding/binary"
	"testing"
)

func TestVnetHeaderWire(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the expected bytes are those of a little-endian machine")
	}
	h := VnetHeader{Flags: 1, GSOType: 0x84, HdrLen: 0x0102, GSOSize: 0x0304, CsumStart: 0x0506, CsumOffset: 0x0708}
	wire := [VnetHeaderLen]byte{0x01, 0x84, 0x02, 0x01, 0x04, 0x03, 0x06, 0x05, 0x08, 0x07}

	var got [VnetHeaderLen]byte
	h.Encode(got[:])
	if got != wire {
		t.Errorf("Encode gives % x, want % x", got, wire)
	}
	if d := DecodeVnetHeader(wire[:]); d != h {
		t.Errorf("DecodeVnetHeader gives %+v, want %+v", d, h)
	}
}

// Encode and DecodeVnetHeader touch VnetHeaderLen bytes and no more.
func TestVnetHeaderStaysInside(t *testing.T) {
	b := []byte{0xee, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xee}
	VnetHeader{0xff, 0xff, 0xffff, 0xffff, 0xffff, 0xffff}.Encode(b[1:])
	if b[0] != 0xee || b[11] != 0xee {
		t.Errorf("Encode wrote outside: % x", b)
	}
	if h := DecodeVnetHeader(b[1 : 1+VnetHeaderLen]); h != (VnetHeader{0xff, 0xff, 0xffff, 0xffff, 0xffff, 0xffff}) {
		t.Errorf("round trip gives %+v", h)
	}
}

func TestOffloadsString(t *testing.T) {
	for _, tt := range []struct {
		o    Offloads
		want string
	}{
		{Offloads{}, "none"},
		{Offloads{Checksum: true, TSO4: true, TSO6: true}, "checksum tso4 tso6"},
		{Offloads{Checksum: true, TSO4: true, TSO6: true, USO: true}, "checksum tso4 tso6 uso"},
	} {
		if got := tt.o.String(); got != tt.want {
			t.Errorf("%#v gives %q, want %q", tt.o, got, tt.want)
		}
	}
}
