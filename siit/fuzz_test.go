package siit_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"tnat64d/siit"
)

// Fuzz targets. Every input goes through the harness, which knows what must
// hold for any bytes: no panic, nothing read or written outside, a refused
// packet unchanged, and an output that gVisor finds valid, that fits the link,
// and whose addresses are ours. The seeds are all vectors.

// fuzzConfigs are the configurations that inputs are tried with.
func fuzzConfigs() []siit.Config {
	with := func(c siit.Config, change func(c *siit.Config)) siit.Config { change(&c); return c }
	table := tableE5()
	table.MTU6, table.MTU4 = 1400, 1480
	return []siit.Config{
		hostConfig(),
		neutralConfig(),
		routerConfig(),
		table,
		with(hostConfig(), func(c *siit.Config) { c.NodeID, c.MTU6, c.MTU4 = true, 1280, 600 }),
		with(hostConfig(), func(c *siit.Config) { c.LowestIPv6MTU = 1500 }),
		with(neutralConfig(), func(c *siit.Config) { c.MTU6, c.MTU4, c.DropUDPZeroChecksum = 65535, 65515, true }),
		with(hostConfig(), func(c *siit.Config) {
			c.Mapping.EAM, c.DropWKPPrivate = []siit.EAM{eam("198.51.100.0/28", "2001:db8:cccc::/124")}, true
			c.Mapping.PREF64 = wellKnown
		}),
	}
}

func fuzzRigs(f *testing.F) []*rig {
	var rigs []*rig
	for _, cfg := range fuzzConfigs() {
		rigs = append(rigs, newRig(f, cfg))
	}
	return rigs
}

// What repair makes right in a packet, so that inputs get past the checks of
// the header.
const (
	repairHeader    = 1 << iota // IPv4 checksum and length, IPv6 length
	repairAddresses             // those of the configuration
	repairTransport             // TCP, UDP and ICMP checksums
	repairHops                  // a TTL that has not run out
)

func repair(in []byte, what uint8, cfg siit.Config) []byte {
	in = bytes.Clone(in)
	m := cfg.Mapping
	if len(in) >= 20 && in[0]>>4 == 4 {
		if what&repairAddresses != 0 && m.CLAT.IPv4.IsValid() {
			copy(in[12:], clat4.AsSlice())
		}
		if what&repairHops != 0 {
			in[8] |= 4
		}
		if what&repairHeader != 0 {
			in[0] |= 5
			if int(in[0]&15)*4 > len(in) {
				in[0] = 0x45
			}
			binary.BigEndian.PutUint16(in[2:], uint16(min(len(in), 0xffff)))
			fixIPv4Checksum(in)
		}
	} else if len(in) >= 40 && in[0]>>4 == 6 {
		if what&repairAddresses != 0 && m.CLAT.IPv6.IsValid() {
			copy(in[24:], m.CLAT.IPv6.AsSlice())
			copy(in[8:], m.PREF64.Addr().AsSlice()[:12])
		}
		if what&repairHops != 0 {
			in[7] |= 4
		}
		if what&repairHeader != 0 {
			binary.BigEndian.PutUint16(in[4:], uint16(min(len(in)-40, 0xffff)))
		}
	}
	p, err := parse(in, false)
	if what&repairTransport == 0 || err != nil || p.offset > 0 {
		return in
	}
	t := p.transport
	switch {
	case p.proto == protoTCP && len(t) >= 20:
		fixTCPChecksum(p.src, p.dst, t)
	case p.proto == protoUDP && len(t) >= 8:
		fixUDPChecksum(p.src, p.dst, t)
	case p.proto == protoICMP && p.version == 4 && len(t) >= 8:
		copy(t, icmp4(t[0], t[1], binary.BigEndian.Uint32(t[4:]), t[8:]))
	case p.proto == protoICMPv6 && p.version == 6 && len(t) >= 8:
		copy(t, icmp6(p.src, p.dst, t[0], t[1], binary.BigEndian.Uint32(t[4:]), t[8:]))
	}
	return in
}

// addSeeds adds every vector of one direction for the configuration it was
// made for, and with everything repaired for another one.
func addSeeds(f *testing.F, direction string) {
	for i, v := range readVectors(f) {
		if direction == "" || v.Direction == direction {
			f.Add(uint8(0), uint8(0), v.in(f))
			f.Add(uint8(i), uint8(0xff), v.in(f))
		}
	}
}

const tooLong = 66000 // bytes; no IP packet is as long

func fuzzTranslate(f *testing.F, direction string) {
	addSeeds(f, direction)
	rigs := fuzzRigs(f)
	f.Fuzz(func(t *testing.T, config, fix uint8, in []byte) {
		if len(in) > tooLong {
			return
		}
		r := rigs[int(config)%len(rigs)]
		r.run(t, repair(in, fix, r.cfg), siit.Offload{})
	})
}

func FuzzTranslate4(f *testing.F) { fuzzTranslate(f, "4to6") }

func FuzzTranslate6(f *testing.F) { fuzzTranslate(f, "6to4") }

// FuzzOffload has the virtio-net header as input, too.
func FuzzOffload(f *testing.F) {
	add := func(config, fix uint8, in []byte, o siit.Offload) {
		f.Add(config, fix, in, o.Flags, o.GSOType, o.HdrLen, o.GSOSize, o.CsumStart, o.CsumOffset)
	}
	for i, v := range readVectors(f) {
		add(uint8(i), uint8(i), v.in(f), siit.Offload{Flags: siit.NeedsCsum, CsumStart: 20, CsumOffset: 16})
	}
	for _, s := range supers(hostConfig().Mapping) {
		if s.payload < 6000 { // small inputs are mutated faster
			in, off := s.packet()
			for config := range uint8(8) {
				add(config, 0, in, off)
			}
		}
	}
	for _, in := range liars() {
		add(0, 0, in, siit.Offload{Flags: siit.NeedsCsum, GSOType: siit.GSOTCPv4, GSOSize: 1400, HdrLen: 40, CsumStart: 20, CsumOffset: 16})
		add(0, 0, in, siit.Offload{Flags: siit.NeedsCsum, GSOType: siit.GSOUDPL4, GSOSize: 100, HdrLen: 28, CsumStart: 20, CsumOffset: 6})
	}
	rigs := fuzzRigs(f)
	f.Fuzz(func(t *testing.T, config, fix uint8, in []byte, flags, gsoType uint8, hdrLen, gsoSize, csumStart, csumOffset uint16) {
		if len(in) > tooLong {
			return
		}
		r := rigs[int(config)%len(rigs)]
		off := siit.Offload{Flags: flags, GSOType: gsoType, HdrLen: hdrLen, GSOSize: gsoSize, CsumStart: csumStart, CsumOffset: csumOffset}
		r.run(t, repair(in, fix&^repairTransport, r.cfg), off)
	})
}

// plat is a translator that undoes what a host's CLAT did: the other end.
func plat(m siit.Mapping) siit.Config {
	return siit.Config{
		Mapping: siit.Mapping{
			PREF64:  m.PREF64,
			EAM:     []siit.EAM{{IPv4: host(m.CLAT.IPv4), IPv6: host(m.CLAT.IPv6)}},
			Hairpin: siit.HairpinOff,
		},
		MTU6: 65535, MTU4: 65535, LowestIPv6MTU: 65535,
	}
}

// FuzzRoundTrip translates there and back again. What comes back is what was
// sent, but for what the RFC says is lost: two hops, IPv4 options, the
// identification of unfragmented packets, DF of small ones, a UDP checksum of
// zero, IPv6 extension headers and flow label.
func FuzzRoundTrip(f *testing.F) {
	addSeeds(f, "")
	hosts, others := []*rig{}, []*rig{}
	for _, cfg := range []siit.Config{hostConfig(), neutralConfig()} {
		hosts = append(hosts, newRig(f, cfg))
		others = append(others, newRig(f, plat(cfg.Mapping)))
	}
	f.Fuzz(func(t *testing.T, config, fix uint8, in []byte) {
		if len(in) > tooLong {
			return
		}
		i := int(config) % len(hosts)
		in = repair(in, fix|repairHeader|repairAddresses|repairHops, hosts[i].cfg)
		there := hosts[i].run(t, in, siit.Offload{})
		if there.verdict != siit.Translated {
			return
		}
		if oneWay(in, there) {
			return
		}
		var back []siit.Packet
		for _, p := range there.packets {
			o := others[i].run(t, p.Bytes(), siit.Offload{})
			if q, err := parse(p.Bytes(), false); err == nil && q.isICMPError() && o.verdict == siit.Drop {
				return // not every code has a way back
			}
			if o.verdict != siit.Translated {
				t.Fatalf("the way back: %v\n   in %x\nthere %v", o, in, there)
			}
			back = append(back, o.packets...)
		}
		if err := checkRoundTrip(in, back); err != nil {
			t.Fatalf("%v\n   in %x\nthere %v\n back %x", err, in, there, back[0].Bytes())
		}
	})
}

// oneWay tells packets that may be translated in one direction only.
func oneWay(in []byte, there outcome) bool {
	p, err := parse(in, false)
	if err != nil {
		return true
	}
	switch p.proto {
	case protoIGMP:
		return true
	case protoICMP:
		return len(there.packets) > 1
	case protoAH, 135, 139, 140:
		return p.isFragment() || len(there.packets) > 1
	}
	return false
}

func checkRoundTrip(in []byte, back []siit.Packet) error {
	whole := back[0].Bytes()
	if len(back) > 1 {
		var err error
		if whole, err = reassembleOne(back); err != nil {
			return err
		}
	}
	p, err := parse(in, false)
	if err != nil {
		return err
	}
	q, err := parse(whole, false)
	if err != nil {
		return err
	}
	switch {
	case p.isICMPError() && (q.src == dummy4 || q.version == 6 && q.src != p.src):
		return nil // from a source that cannot be mapped
	case p.version != q.version || p.src != q.src || p.dst != q.dst || p.proto != q.proto || p.tos != q.tos:
		return fmt.Errorf("%v > %v protocol %d TOS %#x, was %v > %v protocol %d TOS %#x", q.src, q.dst, q.proto, q.tos, p.src, p.dst, p.proto, p.tos)
	case q.ttl != p.ttl-2:
		return fmt.Errorf("TTL %d became %d", p.ttl, q.ttl)
	case p.offset != q.offset || p.more != q.more:
		return fmt.Errorf("fragment %d,%v became %d,%v", p.offset, p.more, q.offset, q.more)
	case p.isFragment() && q.id != p.id&0xffff:
		return fmt.Errorf("identification %#x became %#x", p.id, q.id)
	case p.isICMPError():
		return nil // lengths and quoted identifications are another matter
	case p.version == 4 && !p.isFragment() && q.df != (p.df && len(p.transport)+20 > 1260):
		return fmt.Errorf("DF=%v became %v", p.df, q.df)
	case !bytes.Equal(withoutChecksum(p), withoutChecksum(q)):
		return fmt.Errorf("payload changed")
	case p.proto == protoICMP || p.proto == protoICMPv6:
		if !bytes.Equal(p.transport, q.transport) {
			return fmt.Errorf("ICMP message changed")
		}
		return nil
	}
	if at := map[uint8]int{protoTCP: 16, protoUDP: 6}[p.proto]; at > 0 && p.offset == 0 && len(p.transport) >= at+2 {
		a, b := binary.BigEndian.Uint16(p.transport[at:]), binary.BigEndian.Uint16(q.transport[at:])
		if !sameSum(a, b) && !(p.proto == protoUDP && a == 0) {
			return fmt.Errorf("checksum %#x became %#x", a, b)
		}
	}
	return nil
}
