package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestNativeIPv4 gives the laptop native IPv4 while tnat64d runs, and takes it
// away: the CLAT goes and comes back. Its address waits past DAD: the kernel takes
// minutes for DAD when native IPv4 goes, and the CLAT is up all the same.
func TestNativeIPv4(t *testing.T) {
	w := newWorld(t, lab.Options{}, "")
	w.nativeMayLeave(w.Network)
	was := w.clat.IPv6
	if err := w.SetNativeIPv4(true); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func() error {
		c, err := w.FindCLAT()
		if err == nil && c.TUN != "" {
			err = fmt.Errorf("the CLAT is still there: %+v", c)
		}
		return err
	})
	wants(t, w.laptop(t, "curl", "-sS", url("/")), lab.Greeting, "you are "+lab.NativeLaptop.String())
	u := w.wantState(t, lab.Uplink, control.Standby, "native IPv4")
	if u.StandbyIPv6 == nil || *u.StandbyIPv6 != was {
		t.Fatalf("the address in standby is %v, and was %s while it served", u.StandbyIPv6, was)
	}
	eventually(t, soon, func() error {
		if w.tentative(t, was) {
			return fmt.Errorf("%s is in DAD", was)
		}
		return nil
	})
	server := lab.Synthesize(w.PREF64(), lab.ServerIPv4)
	if out := w.laptop(t, "ip", "-6", "route", "get", server.String()); strings.Contains(out, was.String()) {
		t.Errorf("the kernel chooses the address in standby: %s", out)
	}
	w.dadTransmits(t, 600)
	defer w.dadTransmits(t, 1)
	if err := w.SetNativeIPv4(false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if c, err := w.WaitCLAT(ctx); err != nil || c.IPv6 != was || w.tentative(t, was) {
		t.Fatalf("CLAT is %+v, %v, want the address %s past DAD", c, err, was)
	}
	t.Run("page", w.page)
}

// TestWithdrawn takes PREF64 back by an RA with lifetime 0 and announces it
// again.
func TestWithdrawn(t *testing.T) {
	w := newWorld(t, lab.Options{}, "")
	announced := w.Advert()
	if err := w.WithdrawPREF64(); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func() error {
		out, err := w.try(t, "curl", "-sSv", "--connect-timeout", "10", url("/"))
		if err == nil || !strings.Contains(out, "Network is unreachable") {
			return fmt.Errorf("IPv4 is still there: %w: %s", err, out)
		}
		return nil
	})
	if err := w.SetAdvert(announced); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if _, err := w.WaitCLAT(ctx); err != nil {
		t.Fatal(err)
	}
	t.Run("page", w.page)
}

// TestHostileAdvertisements sends RAs that are wrong in every way a PREF64
// option can be, beside the good one: traffic goes on as if they were not
// there.
func TestHostileAdvertisements(t *testing.T) {
	w := newWorld(t, lab.Options{}, "")
	good, err := w.Advert().Encode()
	if err != nil {
		t.Fatal(err)
	}
	own := netip.PrefixFrom(w.clat.IPv6, 96).Masked()
	hostile := map[string][]byte{
		"length 0":              {38, 0},
		"length 1":              {38, 1, 0x0e, 0x10, 0, 0, 0, 0},
		"cut short":             {38, 2, 0x0e, 0x10, 0x20, 0x01},
		"length 255":            {38, 255, 0x0e, 0x10},
		"PLC 6":                 pref64Option("3fff:bad::/96", 6, 600),
		"PLC 7":                 pref64Option("3fff:bad::/96", 7, 600),
		"multicast":             pref64Option("ff02::/96", 0, 600),
		"link-local":            pref64Option("fe80::/96", 0, 600),
		"unspecified":           pref64Option("::/96", 0, 600),
		"the laptop's link":     pref64Option(lab.LaptopLink.Addr().String()+"/96", 1, 600),
		"around the CLAT":       pref64Option(own.String(), 0, 600),
		"lifetime of 8 seconds": pref64Option("3fff:bad::/96", 0, 8),
	}
	var many []byte
	for i := range 60 { // as many as one RA holds
		many = append(many, pref64Option(fmt.Sprintf("3fff:bad:%x::/96", i+1), 0, 600)...)
	}
	hostile["60 prefixes"] = many
	for name, options := range hostile {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				if err := errors.Join(w.SendRA(append(bytes.Clone(good), options...)), w.SetAdvert(w.Advert())); err != nil {
					t.Fatal(err)
				}
			}
			w.page(t)
		})
	}
	time.Sleep(time.Second) // it may still be thinking
	w.page(t)
	if now, err := w.FindCLAT(); err != nil || now != w.clat {
		t.Errorf("CLAT is %+v, was %+v, %v", now, w.clat, err)
	}
}

// pref64Option is a PREF64 option (RFC 8781 section 4) with any prefix length
// code, for SendRA.
func pref64Option(prefix string, plc byte, seconds int) []byte {
	p := netip.MustParsePrefix(prefix).Addr().As16()
	scaled := uint16(seconds/8)<<3 | uint16(plc)
	return append([]byte{38, 2, byte(scaled >> 8), byte(scaled)}, p[:12]...)
}
