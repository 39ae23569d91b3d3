package pref64

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"
)

// userOptDatagram is what the kernel sends for one option: header, struct
// nduseroptmsg, the option, the router's address.
func userOptDatagram(ifindex int, router netip.Addr, opt []byte) []byte {
	b := make([]byte, nlmsgHdrLen+ndUserOptLen)
	binary.NativeEndian.PutUint16(b[4:], newNDUserOpt)
	b[nlmsgHdrLen] = afINET6
	binary.NativeEndian.PutUint16(b[nlmsgHdrLen+2:], uint16(len(opt)))
	binary.NativeEndian.PutUint32(b[nlmsgHdrLen+4:], uint32(ifindex))
	b[nlmsgHdrLen+8] = typeRouterAdvertisement
	b = append(b, opt...)
	b = binary.NativeEndian.AppendUint16(b, 4+16)
	b = binary.NativeEndian.AppendUint16(b, ndUserSrcAddr)
	b = append(b, router.AsSlice()...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// modified returns a copy of b with the byte at i set to v.
func modified(b []byte, i int, v byte) []byte {
	b = append([]byte(nil), b...)
	b[i] = v
	return b
}

func TestUserOption(t *testing.T) {
	const uplink = 7
	wkp, _ := hex.DecodeString("260207080064ff9b0000000000000000")
	plc7, _ := hex.DecodeString("2602070f0064ff9b0000000000000000")
	rdnss, _ := hex.DecodeString("1903000000000708" + "20010db8000000000000000000000053")
	good := userOptDatagram(uplink, router1, wkp)
	for _, c := range []struct {
		name string
		b    []byte
		want int // observations
		why  Reason
	}{
		{"good", good, 1, None},
		{"two in one datagram", append(modified(good, 0, good[0]), good...), 2, None},
		{"other interface", userOptDatagram(8, router1, wkp), 0, None},
		{"other option", userOptDatagram(uplink, router1, rdnss), 0, None},
		{"other netlink message", modified(good, 4, 16), 0, None},
		{"other family", modified(good, nlmsgHdrLen, 2), 0, None},
		{"of a redirect", modified(good, nlmsgHdrLen+8, 137), 0, None},
		{"bad option", userOptDatagram(uplink, router1, plc7), 0, BadPLC},
		{"router not link-local", userOptDatagram(uplink, netip.MustParseAddr("2001:db8::1"), wkp), 0, NotLinkLocal},
		{"no router", modified(good, len(good)-18, 9), 0, NotLinkLocal},
		{"no option", userOptDatagram(uplink, router1, nil), 0, MalformedReport},
		{"option of length 0", modified(good, nlmsgHdrLen+ndUserOptLen+1, 0), 0, MalformedReport},
		{"option beyond its field", modified(good, nlmsgHdrLen+ndUserOptLen+1, 3), 0, MalformedReport},
		{"field beyond the message", modified(good, nlmsgHdrLen+2, 200), 0, MalformedReport},
		{"message beyond the datagram", modified(good, 0, good[0]+4), 0, MalformedReport},
		{"message length 0", modified(good, 0, 0), 0, MalformedReport},
		{"cut short", good[:20], 0, MalformedReport},
		{"header cut short", good[:3], 0, MalformedReport},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Report
			now := time.Now()
			r.add(c.b, uplink, now)
			if len(r.Observations) != c.want {
				t.Fatalf("got %v, want %d observations", r.Observations, c.want)
			}
			why := None
			if len(r.Ignored) > 0 {
				why = r.Ignored[0].Reason
			}
			if why != c.why {
				t.Errorf("reason %v, want %v", why, c.why)
			}
			for _, o := range r.Observations {
				want := Observation{Prefix: netip.MustParsePrefix("64:ff9b::/96"), Origin: RA, Router: router1,
					Interface: uplink, Expires: now.Add(30 * time.Minute)}
				if o != want {
					t.Errorf("got %+v, want %+v", o, want)
				}
			}
		})
	}
}

func FuzzUserOption(f *testing.F) {
	for _, c := range pref64Options {
		f.Add(userOptDatagram(7, router1, unhex(f, c.bytes)))
	}
	f.Add(userOptDatagram(7, router1, unhex(f, "1903000000000708"+"20010db8000000000000000000000053")))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Report
		r.add(b, 7, time.Now())
		if n := len(r.Observations) + len(r.Ignored); n > len(b)/nlmsgHdrLen+1 {
			t.Fatalf("%d results from %d bytes", n, len(b))
		}
		if n := len(r.Resolvers); n > len(b)/16 {
			t.Fatalf("%d resolvers in %d bytes", n, len(b))
		}
		for _, o := range r.Observations {
			if p, err := Check(o.Prefix); err != nil || p != o.Prefix || !isLinkLocal(o.Router) {
				t.Fatalf("%+v: %v", o, err)
			}
		}
	})
}
