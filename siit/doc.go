// Package siit translates IP packets between IPv4 and IPv6 without state, as
// RFC 7915 (SIIT) describes, with the address mappings of RFC 6052 (PREF64)
// and RFC 7757 (explicit address mappings, EAM).
//
// It is bytes in, bytes out: no I/O, no clock, no log, no lock, and on the
// packet path no map and no allocation. A [Translator] is built once from a
// validated [Config], never changes, and is shared by every queue; to change
// PREF64 or an MTU build another one and swap the pointer. What has to be
// remembered between packets (the IPv4 identification counter, the memory for
// fragments and ICMP errors) lives in a [Scratch], one per goroutine.
//
//	t, err := siit.New(siit.Config{Mapping: siit.Mapping{PREF64: p, CLAT: pair}, MTU6: 1500, MTU4: 1480})
//	s := siit.NewScratch(seed)
//	res := t.Translate(s, siit.Packet{Buf: buf[:siit.Headroom+n], Off: siit.Headroom})
//	switch res.Verdict {
//	case siit.Translated: // send res.Packets the other way
//	case siit.Reply:      // send res.Packets[0], an ICMP error, back to where the packet came from
//	case siit.Drop:       // count res.Reason
//	}
//
// Packets are GSO/GRO super-packets as readily as ordinary ones: the
// virtio-net header travels beside the bytes as an [Offload] value, one header
// is rewritten, the payload is not touched, and the rules that depend on size
// are applied to the segments that the super-packet stands for.
//
// What it does not do: reassembly, port translation, application gateways, and
// deciding which packets should come here at all.
package siit
