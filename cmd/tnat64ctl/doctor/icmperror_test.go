package doctor

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// complaint is what the kernel puts into the error queue.
func complaint(errno unix.Errno, origin, typ, code byte, info uint32, who netip.Addr) []byte {
	b := make([]byte, extendedErrorLen+28)
	binary.NativeEndian.PutUint32(b, uint32(errno))
	b[4], b[5], b[6] = origin, typ, code
	binary.NativeEndian.PutUint32(b[8:], info)
	switch {
	case who.Is4():
		binary.NativeEndian.PutUint16(b[16:], unix.AF_INET)
		copy(b[20:], who.AsSlice())
	case who.Is6():
		binary.NativeEndian.PutUint16(b[16:], unix.AF_INET6)
		copy(b[24:], who.AsSlice())
	}
	return b
}

func TestICMPErrors(t *testing.T) {
	far4, far6 := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")
	for _, c := range []struct {
		b      []byte
		tooBig int
		why    string
	}{
		{complaint(unix.EMSGSIZE, unix.SO_EE_ORIGIN_ICMP6, 2, 0, 1400, far6), 1400, ""},
		{complaint(unix.EMSGSIZE, unix.SO_EE_ORIGIN_ICMP6, 2, 0, 0, far6), 1, ""},
		{complaint(unix.EMSGSIZE, unix.SO_EE_ORIGIN_LOCAL, 0, 0, 1500, netip.Addr{}), 1500, ""},
		{complaint(unix.EMSGSIZE, unix.SO_EE_ORIGIN_ICMP, 3, 4, 576, far4), 576, ""},
		{complaint(unix.ENETUNREACH, unix.SO_EE_ORIGIN_ICMP6, 1, 0, 0, far6), 0, "2001:db8::9 says that it has no route there"},
		{complaint(unix.EACCES, unix.SO_EE_ORIGIN_ICMP6, 1, 5, 0, far6), 0, "2001:db8::9 says that the source address is not allowed"},
		{complaint(unix.EHOSTUNREACH, unix.SO_EE_ORIGIN_ICMP6, 1, 9, 0, far6), 0, "2001:db8::9 says that it is unreachable"},
		{complaint(unix.EHOSTUNREACH, unix.SO_EE_ORIGIN_ICMP6, 3, 0, 0, far6), 0, "2001:db8::9 says that the hop limit was exceeded, perhaps in a routing loop"},
		{complaint(unix.EHOSTUNREACH, unix.SO_EE_ORIGIN_ICMP, 3, 1, 0, far4), 0, "192.0.2.9 says that the host is unreachable"},
		{complaint(unix.EHOSTUNREACH, unix.SO_EE_ORIGIN_LOCAL, 0, 0, 0, netip.Addr{}), 0, "this host says: no route to host"},
	} {
		x, ok := parseExtendedError(c.b)
		var e echo
		e.fail(x)
		if !ok || e.tooBig != c.tooBig || e.why != c.why {
			t.Errorf("%+v: too big %d, %q; want %d, %q", x, e.tooBig, e.why, c.tooBig, c.why)
		}
	}
	for n := range extendedErrorLen + 28 {
		parseExtendedError(complaint(unix.EMSGSIZE, unix.SO_EE_ORIGIN_ICMP6, 2, 0, 1400, far6)[:n])
	}
	if _, ok := parseExtendedError(make([]byte, extendedErrorLen-1)); ok {
		t.Error("too short")
	}
}

func TestRelease(t *testing.T) {
	for text, want := range map[string][2]int{"6.18.44-fc": {6, 18}, "5.10.0-39-amd64": {5, 10}, "6.1.0": {6, 1}, "": {0, 0}} {
		if major, minor := release(text); major != want[0] || minor != want[1] {
			t.Errorf("%q: %d.%d", text, major, minor)
		}
	}
}
