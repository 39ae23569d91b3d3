package shim

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

var (
	here4  = netip.MustParseAddrPort("192.0.0.1:4000")
	there4 = netip.MustParseAddrPort("198.51.100.7:53")
	here6  = netip.MustParseAddrPort("[fd64:6464::1]:4000")
	there6 = netip.MustParseAddrPort("[2001:db8::7]:53")
)

// gVisor reads what is injected.
func TestInjectedDatagrams(t *testing.T) {
	for _, data := range [][]byte{nil, {1}, []byte("hello"), bytes.Repeat([]byte{0xff}, 1401)} {
		b := make([]byte, maxHead)
		n := putUDP(b, there4, here4, data)
		ip := header.IPv4(append(b[:n:n], data...))
		udp := header.UDP(ip.Payload())
		if !ip.IsValid(len(ip)) || ip.SourceAddress().String() != "198.51.100.7" || udp.SourcePort() != 53 || udp.DestinationPort() != 4000 || !bytes.Equal(udp.Payload(), data) || udp.Checksum() != 0 {
			t.Errorf("%d bytes: % x", len(data), []byte(ip))
		}
		b = make([]byte, maxHead)
		n = putUDP(b, there6, here6, data)
		six := header.IPv6(append(b[:n:n], data...))
		udp = header.UDP(six.Payload())
		if !six.IsValid(len(six)) || udp.Length() != uint16(8+len(data)) {
			t.Errorf("%d bytes: % x", len(data), []byte(six))
		}
		if !udp.IsChecksumValid(six.SourceAddress(), six.DestinationAddress(), checksum.Checksum(udp.Payload(), 0)) {
			t.Errorf("%d bytes: wrong checksum %#x", len(data), udp.Checksum())
		}
	}
}

func syn(from, to netip.AddrPort) []byte {
	b := make([]byte, maxHead+sizeofTCP)
	n := sizeofIPv4
	if to.Addr().Is6() {
		n = sizeofIPv6
		putIPv6(b, from.Addr(), to.Addr(), unix.IPPROTO_TCP, sizeofTCP)
	} else {
		putIPv4(b, from.Addr(), to.Addr(), unix.IPPROTO_TCP, sizeofTCP)
	}
	t := b[n : n+sizeofTCP]
	binary.BigEndian.PutUint16(t, from.Port())
	binary.BigEndian.PutUint16(t[2:], to.Port())
	binary.BigEndian.PutUint32(t[4:], 0xfffffffe)
	t[12], t[13] = 0x50, flagSYN
	return b[:n+sizeofTCP]
}

func TestSYNFilter(t *testing.T) {
	raw, err := synFilter()
	if err != nil {
		t.Fatal(err)
	}
	// The mark is an extension, which the virtual machine does not have: zero.
	var insns []bpf.Instruction
	for _, r := range raw {
		i := r.Disassemble()
		if e, ok := i.(bpf.LoadExtension); ok && e.Num == bpf.ExtMark {
			i = bpf.LoadConstant{Dst: bpf.RegA}
		}
		insns = append(insns, i)
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		t.Fatal(err)
	}
	with := func(b []byte, flags byte) []byte {
		c := append([]byte(nil), b...)
		at := len(c) - sizeofTCP + 13
		c[at] = flags
		return c
	}
	options := syn(here4, there4)
	options = append(options[:sizeofIPv4:sizeofIPv4], append([]byte{1, 1, 1, 1}, options[sizeofIPv4:]...)...)
	options[0] = 0x46
	udp := syn(here4, there4)
	udp[9] = unix.IPPROTO_UDP
	for _, c := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"IPv4 SYN", syn(here4, there4), true},
		{"IPv4 SYN with options", options, true},
		{"IPv4 SYN and ACK", with(syn(here4, there4), flagSYN|flagACK), false},
		{"IPv4 ACK", with(syn(here4, there4), flagACK), false},
		{"IPv4 SYN with ECN", with(syn(here4, there4), flagSYN|0xc0), true},
		{"IPv6 SYN", syn(here6, there6), true},
		{"IPv6 RST", with(syn(here6, there6), 4), false},
		{"UDP", udp, false},
	} {
		n, err := vm.Run(c.b)
		if err != nil || (n > 0) != c.want {
			t.Errorf("%s: %d, %v", c.name, n, err)
		}
	}
}

func TestRefusal(t *testing.T) {
	for _, p := range []pair{{here4, there4}, {here6, there6}} {
		s := syn(p.from, p.to)
		got, ok := parseSYN(s)
		if !ok || got != p {
			t.Fatalf("%v, want %v", got, p)
		}
		b := make([]byte, maxHead+sizeofTCP)
		n := putReset(b, p, s)
		tcp := header.TCP(b[n-sizeofTCP : n])
		if tcp.SourcePort() != p.to.Port() || tcp.DestinationPort() != p.from.Port() || tcp.AckNumber() != 0xffffffff || tcp.Flags() != header.TCPFlagRst|header.TCPFlagAck {
			t.Errorf("% x", b[:n])
		}
		sum := checksum.Checksum(p.to.Addr().AsSlice(), unix.IPPROTO_TCP+sizeofTCP)
		sum = checksum.Checksum(p.from.Addr().AsSlice(), sum)
		if checksum.Checksum(tcp, sum) != 0xffff {
			t.Errorf("wrong checksum of % x", b[:n])
		}
	}
}

// RFC 7915 section 5.2.
func TestTranslateError(t *testing.T) {
	for _, c := range []struct {
		e         extendedError
		typ, code byte
		mtu       uint16
		ok        bool
	}{
		{extendedError{origin: originICMP6, typ: 1, code: 0}, 3, 1, 0, true},
		{extendedError{origin: originICMP6, typ: 1, code: 1}, 3, 10, 0, true},
		{extendedError{origin: originICMP6, typ: 1, code: 2}, 3, 1, 0, true},
		{extendedError{origin: originICMP6, typ: 1, code: 3}, 3, 1, 0, true},
		{extendedError{origin: originICMP6, typ: 1, code: 4}, 3, 3, 0, true},
		{extendedError{origin: originICMP6, typ: 2, info: 1280}, 3, 4, 1260, true},
		{extendedError{origin: originICMP6, typ: 3, code: 0}, 11, 0, 0, true},
		{extendedError{origin: originICMP6, typ: 3, code: 1}, 11, 1, 0, true},
		{extendedError{origin: originICMP6, typ: 4}, 0, 0, 0, false},
		{extendedError{origin: originICMP, typ: 3, code: 3}, 3, 3, 0, true},
	} {
		typ, code, mtu, ok := translateError(c.e)
		if typ != c.typ || code != c.code || mtu != c.mtu || ok != c.ok {
			t.Errorf("%+v: %d/%d, MTU %d, %v", c.e, typ, code, mtu, ok)
		}
	}
}

// Datagrams of one size go out by one system call.
func TestSegments(t *testing.T) {
	p := pending{flow: &flow{}, from: here4, orig: there4, size: 100, most: 1400}
	p.add(make([]byte, 100))
	for _, c := range []struct {
		name   string
		length int
		size   int
		hops   int
		want   bool
	}{
		{"the same size", 100, 100, 0, true},
		{"shorter", 60, 60, 0, true},
		{"longer", 101, 101, 0, false},
		{"empty", 0, 0, 0, false},
		{"another hop limit", 100, 100, 7, false},
		{"several", 350, 100, 0, true},
		{"several longer ones", 350, 101, 0, false},
		{"several shorter ones", 90, 50, 0, false},
		{"63 more", 6300, 100, 0, true},
		{"64 more", 6301, 100, 0, false},
	} {
		if got := p.joins(here4, there4, c.hops, c.length, c.size); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	p.add(make([]byte, 260))
	if p.joins(here4, there4, 0, 60, 60) {
		t.Error("something follows a shorter one")
	}
	var sizes []int
	p.each(func(v *unix.Iovec) { sizes = append(sizes, int(v.Len)) })
	if p.n != 4 || !slices.Equal(sizes, []int{100, 100, 100, 60}) {
		t.Errorf("%d datagrams of %d bytes", p.n, sizes)
	}
}
