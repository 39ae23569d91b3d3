package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// probe sends an ICMP echo request to target through a CLAT. Nobody waits for
// the reply: it is translated and counted like any packet, which is all that
// platWatch wants.
func probe(ctx context.Context, tun string, source, target netip.Addr) error {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), tun) }), err)
	}}
	conn, err := config.ListenPacket(ctx, "ip4:icmp", source.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	request := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(rand.Uint32() & 0xffff), Seq: 1, Data: []byte("tnat64d: does the NAT64 answer?")}}
	b, err := request.Marshal(nil)
	if err != nil {
		return err
	}
	_, err = conn.WriteTo(b, &net.IPAddr{IP: target.AsSlice()})
	return err
}
