package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// builtInCommand is the subcommand by which tnat64-lab runs itself on the
// laptop as a small IPv4-only program. It opens AF_INET sockets and no others,
// and knows nothing of IPv6, NAT64 or tnat64d.
const builtInCommand = "ipv4-only"

// builtIn runs one of the small programs.
func builtIn(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) < 2 {
		return errors.New("usage: tnat64-lab ipv4-only get|download URL, ping|traceroute ADDRESS")
	}
	switch args[0] {
	case "get":
		return get(ctx, args[1], stdout)
	case "download":
		start := time.Now()
		var n counter
		if err := get(ctx, args[1], &n); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stdout, "%d %.3f\n", n, time.Since(start).Seconds())
		return err
	}
	dst, err := netip.ParseAddr(args[1])
	if err != nil || !dst.Is4() {
		return fmt.Errorf("%q is not an IPv4 address", args[1])
	}
	switch args[0] {
	case "ping":
		return ping(ctx, dst, stdout)
	case "traceroute":
		return traceroute(ctx, dst, stdout)
	}
	return fmt.Errorf("unknown program %q", args[0])
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// get writes what an http URL answers to w.
func get(ctx context.Context, url string, w io.Writer) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp4", addr)
		},
		ReadBufferSize: 256 << 10,
	}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %q: %s", url, resp.Status)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, resp.Body, make([]byte, 256<<10))
	return err
}

const pings = 3

// ping sends three echo requests and waits for their answers.
func ping(ctx context.Context, dst netip.Addr, stdout io.Writer) error {
	conn, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	received := 0
	var total time.Duration
	for seq := range pings {
		start := time.Now()
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: seq, Data: make([]byte, 56)}}
		packet, err := m.Marshal(nil)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(packet, &net.IPAddr{IP: dst.AsSlice()}); err != nil {
			return err
		}
		if awaitEcho(conn, os.Getpid()&0xffff, seq, start.Add(time.Second)) {
			received++
			total += time.Since(start)
		}
	}
	if received == 0 {
		return fmt.Errorf("ping %s: no answer", dst)
	}
	_, err = fmt.Fprintf(stdout, "%d packets transmitted, %d received, on average after %.3f ms\n",
		pings, received, float64((total/time.Duration(received)).Microseconds())/1000)
	if err == nil && received < pings {
		err = fmt.Errorf("ping %s: %d of %d answers are missing", dst, pings-received, pings)
	}
	return err
}

// awaitEcho reads until the answer with that id and number, or the deadline.
func awaitEcho(conn net.PacketConn, id, seq int, deadline time.Time) bool {
	conn.SetReadDeadline(deadline)
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return false
		}
		m, err := icmp.ParseMessage(unix.IPPROTO_ICMP, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == id && e.Seq == seq {
			return true
		}
	}
}

// traceroute sends UDP datagrams with growing TTL to ports nobody listens on
// and prints who complains.
func traceroute(ctx context.Context, dst netip.Addr, stdout io.Writer) error {
	const maxHops = 30
	for ttl := 1; ttl <= maxHops; ttl++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		hop, err := probe(dst, ttl)
		if err != nil {
			return fmt.Errorf("traceroute %s: %w", dst, err)
		}
		who := "*"
		if hop.IsValid() {
			who = hop.String()
		}
		if _, err := fmt.Fprintf(stdout, "%2d  %s\n", ttl, who); err != nil {
			return err
		}
		if hop == dst {
			return nil
		}
	}
	return fmt.Errorf("traceroute %s: not reached within %d hops", dst, maxHops)
}

// probe sends one datagram with the given TTL and returns who sent the ICMP
// error about it, or the zero Addr if nobody did within a second.
func probe(dst netip.Addr, ttl int) (netip.Addr, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Port: 33434 + ttl, Addr: dst.As4()}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1),
		unix.Sendto(fd, make([]byte, 32), 0, to),
	)
	if err != nil {
		return netip.Addr{}, err
	}
	// An ICMP error makes the socket's error queue readable (POLLERR).
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, 1000); n == 0 || err != nil {
		return netip.Addr{}, nil
	}
	oob := make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 64), oob, unix.MSG_ERRQUEUE)
	if err != nil {
		return netip.Addr{}, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return netip.Addr{}, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR {
			return offender(m.Data), nil
		}
	}
	return netip.Addr{}, nil
}

// offender returns who sent an ICMP error: the struct sockaddr_in behind the
// 16 bytes of struct sock_extended_err (ip(7), SO_EE_OFFENDER).
func offender(data []byte) netip.Addr {
	if len(data) < 24 || binary.NativeEndian.Uint16(data[16:]) != unix.AF_INET {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(data[20:24]))
}

// speed words the line "BYTES SECONDS" that a download prints.
func speed(line string) (string, error) {
	var n int64
	var seconds float64
	if _, err := fmt.Sscan(line, &n, &seconds); err != nil || n == 0 || seconds == 0 {
		return "", fmt.Errorf("%s is no download", strconv.Quote(line))
	}
	return fmt.Sprintf("%d MiB in %.1f s: %.2f Gbit/s", n>>20, seconds, float64(n)*8/seconds/1e9), nil
}
