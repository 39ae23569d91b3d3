package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// freshLife ends the address if we do not, because we were killed.
	freshLife = 20 // seconds
	// dadPatience is for how long DAD may take: a second of its own, up to one
	// of delay before it, and some.
	dadPatience = 3 * time.Second
)

// freshAddress is an address that has been put on the uplink for a while.
type freshAddress struct {
	handle *netlink.Handle
	link   netlink.Link
	addr   *netlink.Addr
	ip     netip.Addr
}

// addFresh puts a random address of the prefix on the uplink, as tnat64d does with
// its CLAT's: without a route, and never chosen as a source by the kernel. It
// goes by itself after a while.
func addFresh(u Uplink, prefix netip.Prefix) (*freshAddress, error) {
	f := &freshAddress{ip: randomIn(prefix)}
	var err error
	if f.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	if f.link, err = f.handle.LinkByIndex(u.Index); err == nil {
		f.addr, err = netlink.ParseAddr(netip.PrefixFrom(f.ip, 128).String())
	}
	if err == nil {
		f.addr.Flags = unix.IFA_F_NOPREFIXROUTE
		// netlink takes a preferred lifetime of 0 for none given, if the valid
		// one is not set either.
		f.addr.ValidLft, f.addr.PreferedLft = freshLife, 0
		err = f.handle.AddrAdd(f.link, f.addr)
	}
	if err != nil {
		f.handle.Close()
		return nil, fmt.Errorf("put an address on %s: %w", u.Name, err)
	}
	return f, nil
}

// randomIn returns a random address of a prefix of at least 64 bits, neither made
// from a MAC address nor reserved in a /64.
func randomIn(prefix netip.Prefix) netip.Addr {
	p := prefix.Masked().Addr().As16()
	var b [16]byte
	rand.Read(b[8:])
	for i := range b {
		b[i] = p[i] | b[i]&(byte(0xff)>>max(0, min(8, prefix.Bits()-8*i)))
	}
	if prefix.Bits() == 64 {
		b[8] &^= 0x03
	}
	return netip.AddrFrom16(b)
}

// remove takes the address away again. It is no error if it is gone.
func (f *freshAddress) remove() {
	_ = f.handle.AddrDel(f.link, f.addr) // or its lifetime ends
	f.handle.Close()
}

// wait waits for DAD. duplicate: somebody has claimed the address.
func (f *freshAddress) wait(ctx context.Context) (duplicate bool, err error) {
	deadline := time.Now().Add(dadPatience)
	for {
		addrs, err := f.handle.AddrList(f.link, netlink.FAMILY_V6)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return false, err
		}
		found := err != nil
		for _, a := range addrs {
			if !a.IP.Equal(f.addr.IP) {
				continue
			}
			found = true
			switch {
			case a.Flags&unix.IFA_F_DADFAILED != 0:
				return true, nil
			case a.Flags&unix.IFA_F_TENTATIVE == 0:
				return false, nil
			}
		}
		switch {
		case !found:
			// The kernel removes an address with a lifetime when DAD fails.
			return true, nil
		case time.Now().After(deadline):
			return false, errors.New("duplicate address detection did not end")
		}
		select {
		case <-ctx.Done():
			return false, errors.New(noTime)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tryFresh tests whether the network treats an address that it has never seen
// like the host's own. dst yields an address beyond the PLAT when one is known,
// or is closed.
func tryFresh(ctx context.Context, u Uplink, prefix netip.Prefix, dst <-chan netip.Addr) Fresh {
	var r Fresh
	f, err := addFresh(u, prefix)
	if err != nil {
		r.Why = err.Error()
		return r
	}
	defer f.remove()
	r.Address = f.ip
	if r.Duplicate, err = f.wait(ctx); err != nil {
		r.Why = err.Error()
		return r
	}
	r.Tested = true
	if r.Duplicate {
		return r
	}
	var probes sync.WaitGroup
	defer probes.Wait()
	if u.Router.IsValid() {
		probes.Go(func() { r.OwnRouter = pingOnce(ctx, u.Router, u.Index, netip.Addr{}) })
		probes.Go(func() { r.FreshRouter = pingOnce(ctx, u.Router, u.Index, f.ip) })
	}
	select {
	case <-ctx.Done():
	case far, ok := <-dst:
		if ok {
			probes.Go(func() { r.OwnTarget = pingOnce(ctx, far, u.Index, netip.Addr{}) })
			probes.Go(func() { r.FreshTarget = pingOnce(ctx, far, u.Index, f.ip) })
		}
	}
	probes.Wait()
	if !r.OwnRouter.OK && !r.OwnTarget.OK {
		r.Tested, r.Why = false, "this host's own address gets no answers to ping either"
	}
	return r
}
