package engine

import (
	"bytes"
	"testing"

	"tnat64d/siit"
)

func TestLinkHeaderLen(t *testing.T) {
	ethernet := append([]byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 6, 7, 8, 9, 10, 11}, 0x86, 0xdd)
	vlan := append([]byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 6, 7, 8, 9, 10, 11}, 0x81, 0x00, 0xe0, 0x00, 0x86, 0xdd)
	ip := append([]byte{0x60}, make([]byte, 60)...)
	ip4 := append([]byte{0x45}, make([]byte, 60)...)
	copy(ip4[12:], []byte{0x86, 0xdd, 0x60, 0}) // a source of 134.221.96.0
	ip6 := bytes.Clone(ip)
	copy(ip6[12:], []byte{0x86, 0xdd, 0x60})
	for name, c := range map[string]struct {
		frame []byte
		want  int
	}{
		"Ethernet":                      {append(ethernet, ip...), 14},
		"Ethernet with a priority tag":  {append(vlan, ip...), 18},
		"IPv4 that looks like a frame":  {ip4, 0},
		"IPv6 that looks like a frame":  {ip6, 0},
		"tag with something else":       {append(append([]byte(nil), vlan[:16]...), append([]byte{8, 0}, ip4...)...), 0},
		"ARP":                           {append(append([]byte(nil), ethernet[:12]...), append([]byte{8, 6}, ip...)...), 0},
		"too short for a header":        {ethernet[:13], 0},
		"nothing":                       {nil, 0},
		"a destination that was not 00": {append([]byte{0x60}, append(ethernet[1:14:14], ip...)...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := linkHeaderLen(c.frame); got != c.want {
				t.Errorf("linkHeaderLen is %d, want %d", got, c.want)
			}
		})
	}
}

// What the virtio-net header points at stays where it is.
func TestStripLinkHeader(t *testing.T) {
	buf := make([]byte, siit.Headroom+14+100)
	copy(buf[siit.Headroom+12:], []byte{0x86, 0xdd, 0x60})
	p := siit.Packet{Buf: buf, Off: siit.Headroom, Offload: siit.Offload{Flags: 1, HdrLen: 74, CsumStart: 54, CsumOffset: 16}}
	stripLinkHeader(&p)
	if p.Off != siit.Headroom+14 || p.Offload.HdrLen != 60 || p.Offload.CsumStart != 40 || p.Offload.CsumOffset != 16 {
		t.Errorf("packet at %d, %+v", p.Off, p.Offload)
	}
	same := p
	stripLinkHeader(&p)
	if p.Off != same.Off || p.Offload != same.Offload {
		t.Errorf("stripped twice: packet at %d, %+v", p.Off, p.Offload)
	}
}

func TestRaiseHopLimit(t *testing.T) {
	for _, c := range []struct{ version, limit, want byte }{{6, 1, 2}, {6, 63, 64}, {6, 254, 255}, {6, 255, 255}, {4, 7, 7}} {
		b := make([]byte, 40)
		b[0], b[7] = c.version<<4, c.limit
		raiseHopLimit(&siit.Packet{Buf: b})
		if b[7] != c.want {
			t.Errorf("version %d, %d becomes %d, want %d", c.version, c.limit, b[7], c.want)
		}
	}
}
