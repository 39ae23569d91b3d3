package shim

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses of the hidden namespace itself. Programs see them as the
// source of their datagrams.
var (
	hiddenIPv4 = placeholder
	hiddenIPv6 = netip.MustParseAddr("fd64:6464::1")
)

// relayMark is on what the relay puts into the namespace.
const relayMark = 2

// setUp gives the network namespace of the calling thread a loopback interface
// on which every address is local. mtu is that of IPv4 routes.
func setUp(mtu int) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	index := lo.Attrs().Index
	local := func(a netip.Addr) *netlink.Addr {
		bits := a.BitLen()
		return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, bits)}, Flags: unix.IFA_F_NODAD}
	}
	if err := netlink.AddrAdd(lo, local(hiddenIPv4)); err != nil {
		return fmt.Errorf("address %s: %w", hiddenIPv4, err)
	}
	route := &netlink.Route{
		LinkIndex: index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
		Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Src: hiddenIPv4.AsSlice(), MTU: mtu,
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("local IPv4 route: %w", err)
	}
	// Without IPv6 there are no AF_INET6 sockets either.
	if err := netlink.AddrAdd(lo, local(hiddenIPv6)); err == nil {
		route := &netlink.Route{
			LinkIndex: index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL,
			Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("local IPv6 route: %w", err)
		}
	}
	return nil
}

// divert leads all datagrams to the transparent sockets at the given ports,
// except those of the relay. With a listener it leads connections there, once
// the relay has sent their SYN again: the program's own is dropped.
func divert(port4, port6, listener uint16) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, f := range []struct {
		family nftables.TableFamily
		nfp    byte
		port   uint16
	}{{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, port4}, {nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, port6}} {
		if f.port == 0 {
			continue
		}
		t := c.AddTable(&nftables.Table{Name: "tnat64", Family: f.family})
		chain := c.AddChain(&nftables.Chain{
			Name: "divert", Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
		})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(relayMark)},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
			&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(f.port)},
			&expr.TProxy{Family: f.nfp, TableFamily: f.nfp, RegPort: 1},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}})
		if listener != 0 {
			holdSYN(c, t, chain, f.nfp, listener)
		}
	}
	if err := c.Flush(); err != nil {
		// The library joins the errors of all messages, one a line.
		text, _, _ := strings.Cut(err.Error(), "\n")
		return fmt.Errorf("nftables (nft_tproxy): %s", text)
	}
	return nil
}

// holdSYN adds the rules for TCP.
func holdSYN(c *nftables.Conn, t *nftables.Table, chain *nftables.Chain, nfp byte, listener uint16) {
	tcp := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
	syn := []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{flagSYN | flagACK}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{flagSYN}},
	}
	mark := func(op expr.CmpOp, v uint32) []expr.Any {
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Cmp{Op: op, Register: 1, Data: binaryutil.NativeEndian.PutUint32(v)},
		}
	}
	rule := func(parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(parts...)})
	}
	rule(mark(expr.CmpOpEq, localMark), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
	rule(tcp, syn, mark(expr.CmpOpNeq, relayMark), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	rule(tcp, []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(listener)},
		&expr.TProxy{Family: nfp, TableFamily: nfp, RegPort: 1},
		&expr.Verdict{Kind: expr.VerdictAccept},
	})
}

// permitPing lets the namespace have ping sockets, and keeps the kernel from
// answering echo requests: the relay does.
func permitPing() error {
	return errors.Join(
		os.WriteFile("/proc/sys/net/ipv4/icmp_echo_ignore_all", []byte("1"), 0),
		os.WriteFile("/proc/sys/net/ipv4/ping_group_range", fmt.Appendf(nil, "%d %d", os.Getgid(), os.Getgid()), 0),
	)
}

// transparent opens the socket to which divert leads, and returns its port.
func transparent(family int) (fd int, port uint16, err error) {
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	set := func(level, opt int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, level, opt, 1)
		}
	}
	var any unix.Sockaddr = &unix.SockaddrInet4{}
	if family == unix.AF_INET6 {
		any = &unix.SockaddrInet6{}
		set(unix.SOL_IPV6, unix.IPV6_V6ONLY)
		set(unix.SOL_IPV6, unix.IPV6_TRANSPARENT)
		set(unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR)
		set(unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT)
	} else {
		set(unix.SOL_IP, unix.IP_TRANSPARENT)
		set(unix.SOL_IP, unix.IP_RECVORIGDSTADDR)
		set(unix.SOL_IP, unix.IP_RECVTTL)
	}
	if err == nil {
		err = unix.Bind(fd, any)
	}
	if err == nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
		unix.SetsockoptInt(fd, unix.SOL_UDP, udpGRO, 1) // what a program sends by UDP_SEGMENT stays whole
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(fd); err == nil {
			return fd, addrPort(sa).Port(), nil
		}
	}
	unix.Close(fd)
	return -1, 0, err
}

// injector opens a socket that sends whole packets into the namespace.
func injector(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, relayMark); err != nil {
		unix.Close(fd)
		return -1, err
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	return fd, nil
}

// echoes opens a socket that receives echo requests.
func echoes() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return -1, err
	}
	const icmpFilter, echoRequest = 1, 8
	if err := unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, ^(1 << echoRequest)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
