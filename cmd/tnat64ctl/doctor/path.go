package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
	"tnat64d/siit"
)

// tcpPatience is how long a connection may take to come about: one
// retransmission of a lost SYN (after 1 s), and some.
const tcpPatience = 2 * time.Second

// synthesize returns the IPv6 address that stands for v4 behind pref64 (RFC 6052
// section 2.2).
func synthesize(pref64 netip.Prefix, v4 netip.Addr) netip.Addr {
	p, err := siit.NewPrefix(pref64)
	if err != nil {
		return netip.Addr{} // discovery lets no such prefix through
	}
	return p.Embed(v4)
}

// tryPath tries to reach the target through pref64, over the interface ifindex
// and from the host's own address; or, if pref64 is invalid, over plain IPv4
// as programs do.
func tryPath(ctx context.Context, pref64 netip.Prefix, ifindex int, t Target) Path {
	p := Path{PREF64: pref64}
	dst, v6 := t.Address, pref64.IsValid()
	if v6 {
		dst = synthesize(pref64, t.Address)
	} else {
		ifindex = 0
	}
	var both sync.WaitGroup
	both.Go(func() { p.Echo = pingOnce(ctx, dst, ifindex, netip.Addr{}) })
	if t.Port != 0 {
		both.Go(func() { p.TCP = connect(ctx, netip.AddrPortFrom(dst, t.Port), ifindex) })
	} else {
		p.TCP.Why = "no port was given"
	}
	both.Wait()
	return p
}

// pingOnce sends small echoes to dst, by the interface ifindex and from the
// given source unless they are 0 and invalid.
func pingOnce(ctx context.Context, dst netip.Addr, ifindex int, source netip.Addr) Probe {
	e, err := openEcho(dst.Is6(), ifindex, source)
	if err != nil {
		return Probe{Why: err.Error()}
	}
	defer e.close()
	return inTime(ctx, e.ping(ctx, dst, ifindex, ordinary, 0)[0].probe())
}

// inTime makes of a failure that came when ctx had ended something that was not
// tested.
func inTime(ctx context.Context, p Probe) Probe {
	if ctx.Err() != nil && p.failed() {
		return Probe{Why: noTime}
	}
	return p
}

const noTime = "no time left"

// connect opens a TCP connection and closes it again. A connection that is
// refused is an answer, too.
func connect(ctx context.Context, to netip.AddrPort, ifindex int) Probe {
	d := net.Dialer{Timeout: tcpPatience}
	if ifindex != 0 {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var err error
			cerr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifindex)
			})
			return errors.Join(cerr, err)
		}
	}
	start := time.Now()
	c, err := d.DialContext(ctx, "tcp", to.String())
	p := Probe{Tested: true, Time: time.Since(start)}
	var errno syscall.Errno
	switch {
	case err == nil:
		c.Close()
		p.OK = true
	case errors.Is(err, syscall.ECONNREFUSED):
		p.OK, p.Why = true, "refuses the connection, but answers"
	case errors.As(err, &errno):
		p.Why = errno.Error()
	default:
		p.Why = noAnswer
	}
	if !p.OK {
		p.Time = 0
	}
	return inTime(ctx, p)
}

// ErrName is wrapped by the error for a target whose name does not resolve:
// not necessarily the user's mistake.
var ErrName = errors.New("no IPv4 address is known for it")

// ParseTarget reads what a user wants to reach: HOST or HOST:PORT with an IPv4
// address, or a name that has one.
func ParseTarget(ctx context.Context, text string) (Target, error) {
	t := Target{Name: text}
	host := text
	if h, port, err := net.SplitHostPort(text); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return t, fmt.Errorf("target %q: %q is not a port from 1 to 65535", text, port)
		}
		host, t.Port = h, uint16(n)
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		ctx, cancel := context.WithTimeout(ctx, nameTimeout)
		defer cancel()
		as, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		if err != nil {
			return t, fmt.Errorf("target %q: %w: %w", text, ErrName, err)
		}
		a = as[0]
	}
	a = a.Unmap()
	switch {
	case !a.Is4():
		return t, fmt.Errorf("target %q is not an IPv4 host", text)
	case nonexistent.Contains(a):
		// RFC 7050 section 5.2.
		return t, fmt.Errorf("target %q: there is no host at the addresses of ipv4only.arpa", text)
	case !plan.UsableIPv4(a):
		return t, fmt.Errorf("target %q is not the address of a host behind a NAT64", text)
	}
	t.Address = a
	return t, nil
}

const nameTimeout = 3 * time.Second

// nonexistent are 192.0.0.170 and 192.0.0.171, the addresses of ipv4only.arpa.
var nonexistent = netip.MustParsePrefix("192.0.0.170/31")
