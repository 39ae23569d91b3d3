package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/cmd/tnat64-lab/lab"
)

// load is something to measure between laptop and server.
type load struct {
	name, unit string
	format     string  // of the value
	scale      float64 // what the value is divided by for people
	run        func(ctx context.Context, l *lab.Lab, target netip.Addr, seconds int) (float64, error)
}

// loads begin with one TCP stream up and down, which bench compares with tayga.
var loads = []load{
	{"TCP 1 stream up", "Gbit/s", "%.2f", 1e9, iperf3()},
	{"TCP 1 stream down", "Gbit/s", "%.2f", 1e9, iperf3("-R")},
	{"TCP 4 streams up", "Gbit/s", "%.2f", 1e9, iperf3("-P", "4")},
	{"TCP 4 streams down", "Gbit/s", "%.2f", 1e9, iperf3("-P", "4", "-R")},
	{"UDP 64 bytes up", "1000/s", "%.0f", 1e3, datagrams(false)},
	{"UDP 64 bytes down", "1000/s", "%.0f", 1e3, datagrams(true)},
	{"TCP round trips", "1000/s", "%.1f", 1e3, roundTrips},
	{"TCP connections", "1000/s", "%.1f", 1e3, connections},
}

// iperf3 returns a load of TCP streams, in bits per second that arrived.
func iperf3(more ...string) func(context.Context, *lab.Lab, netip.Addr, int) (float64, error) {
	return func(ctx context.Context, l *lab.Lab, target netip.Addr, seconds int) (float64, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+20*time.Second)
		defer cancel()
		// A server of its own: one that has lost its client says that it is busy.
		server := l.Server.Command(ctx, "iperf3", "-s")
		if err := server.Start(); err != nil {
			return 0, err
		}
		defer func() {
			server.Process.Kill()
			server.Wait()
		}()
		for ctx.Err() == nil && l.Server.Listening(5201) != nil {
			time.Sleep(20 * time.Millisecond)
		}
		args := append([]string{"-J", "-c", target.String(), "-t", strconv.Itoa(seconds), "-O", "1"}, more...)
		cmd := l.Laptop.Command(ctx, "iperf3", args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.Output()
		var report struct {
			Error string
			End   struct {
				Received struct {
					BitsPerSecond float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		if jsonErr := json.Unmarshal(stdout, &report); err == nil {
			err = jsonErr
		}
		if report.Error != "" {
			err = errors.New(report.Error)
		}
		if err != nil {
			return 0, fmt.Errorf("iperf3 to %s: %w %s", target, err, bytes.TrimSpace(stderr.Bytes()))
		}
		return report.End.Received.BitsPerSecond, nil
	}
}

// benchPort is where the server waits for round trips and connections.
const benchPort = 7001

// datagrams returns a load of UDP datagrams with 64 bytes of payload, as many
// as one thread can send: how many per second arrive, at the server or, down,
// at the laptop.
func datagrams(down bool) func(context.Context, *lab.Lab, netip.Addr, int) (float64, error) {
	return func(ctx context.Context, l *lab.Lab, target netip.Addr, seconds int) (arrived float64, err error) {
		length := time.Duration(seconds) * time.Second
		id := byte(1 + rand.IntN(255))
		var server int
		err = l.Server.Do(func() (err error) {
			server, err = bind(l, unix.SOCK_DGRAM)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("server: %w", err)
		}
		defer unix.Close(server)
		type result struct {
			n   float64
			err error
		}
		served := make(chan result, 1)
		go func() {
			var r result
			r.err = l.Server.Do(func() (err error) {
				from, err := caller(server, id)
				switch {
				case err != nil:
				case down:
					err = unix.Connect(server, from)
					if err == nil {
						flood(ctx, server, id, length+100*time.Millisecond)
					}
				default:
					r.n = arrivals(ctx, server, length)
				}
				return err
			})
			served <- r
		}()
		err = l.Laptop.Do(func() error {
			conn, err := dial(target, unix.SOCK_DGRAM)
			if err != nil {
				return err
			}
			defer unix.Close(conn)
			if !down {
				// Longer than the server counts, so that it ends by itself.
				flood(ctx, conn, id, length+100*time.Millisecond)
				return nil
			}
			if err := call(conn, id); err != nil {
				return err
			}
			arrived = arrivals(ctx, conn, length)
			return nil
		})
		r := <-served
		return max(arrived, r.n), errors.Join(err, r.err, ctx.Err())
	}
}

// caller waits for a datagram of this measurement, which id tells from what an
// earlier one has left on the way.
func caller(conn int, id byte) (from unix.Sockaddr, err error) {
	b := make([]byte, 64)
	for b[0] != id {
		if _, from, err = unix.Recvfrom(conn, b, 0); err != nil && err != unix.EINTR {
			return nil, fmt.Errorf("no datagram arrived: %w", err)
		}
	}
	return from, nil
}

// call sends datagrams until the first answer.
func call(conn int, id byte) (err error) {
	b := make([]byte, 64)
	for range 20 {
		b[0] = id
		if _, err = unix.Write(conn, b); err != nil {
			return err
		}
		if _, err = unix.Read(conn, b); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no answer: %w", err)
}

// flood sends datagrams; what the kernel does not take is lost.
func flood(ctx context.Context, conn int, id byte, length time.Duration) {
	b := make([]byte, 64)
	b[0] = id
	end := time.Now().Add(length)
	for n := 0; n%64 != 0 || time.Now().Before(end) && ctx.Err() == nil; n++ {
		unix.Write(conn, b)
	}
}

// arrivals counts datagrams and returns how many came in per second.
func arrivals(ctx context.Context, conn int, length time.Duration) float64 {
	b := make([]byte, 128)
	start := time.Now()
	end := start.Add(length)
	n := 0
	for now := start; now.Before(end) && ctx.Err() == nil; now = time.Now() {
		for range 64 {
			if _, err := unix.Read(conn, b); err != nil {
				break // a pause, or a port that is not open yet
			}
			n++
		}
	}
	return float64(n) / time.Since(start).Seconds()
}

// roundTrips counts bytes that a TCP connection carries to the server and back,
// one after the other.
func roundTrips(ctx context.Context, l *lab.Lab, target netip.Addr, seconds int) (float64, error) {
	return withServer(l, func(conn int) error {
		b := make([]byte, 1)
		for {
			n, err := unix.Read(conn, b)
			if err == unix.EINTR {
				continue // not restarted by itself where there is a timeout
			}
			if n <= 0 {
				return err
			}
			if _, err := unix.Write(conn, b); err != nil {
				return err
			}
		}
	}, func() (n float64, err error) {
		conn, err := dial(target, unix.SOCK_STREAM)
		if err != nil {
			return 0, err
		}
		defer unix.Close(conn)
		b := make([]byte, 1)
		return rate(ctx, seconds, func() error {
			if _, err := unix.Write(conn, b); err != nil {
				return err
			}
			_, err := unix.Read(conn, b)
			return err
		})
	})
}

// connections counts TCP connections that are made, one after the other.
func connections(ctx context.Context, l *lab.Lab, target netip.Addr, seconds int) (float64, error) {
	return withServer(l, func(int) error { return nil }, func() (float64, error) {
		return rate(ctx, seconds, func() error {
			conn, err := dial(target, unix.SOCK_STREAM)
			if err != nil {
				return err
			}
			// By reset, or the ports would be used up by waiting ones.
			err = unix.SetsockoptLinger(conn, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			return errors.Join(err, unix.Close(conn))
		})
	})
}

// rate returns how often per second do can be done.
func rate(ctx context.Context, seconds int, do func() error) (float64, error) {
	start := time.Now()
	end := start.Add(time.Duration(seconds) * time.Second)
	n := 0
	for ; n%64 != 0 || time.Now().Before(end) && ctx.Err() == nil; n++ {
		if err := do(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), ctx.Err()
}

// withServer runs client on the laptop while serve, on the server, answers one
// connection after the other. Both use blocking sockets on threads of their
// own, so that it is not Go's scheduler that is measured.
func withServer(l *lab.Lab, serve func(conn int) error, client func() (float64, error)) (result float64, err error) {
	var listener int
	err = l.Server.Do(func() (err error) {
		listener, err = bind(l, unix.SOCK_STREAM)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("server: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Server.Do(func() error {
			for {
				conn, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
				if err == unix.ECONNABORTED || err == unix.EINTR {
					continue
				}
				if err != nil {
					return err // the listener was shut down
				}
				timeout := unix.Timeval{Sec: 5} // a client that vanished
				unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
				unix.SetsockoptInt(conn, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
				serve(conn)
				unix.Close(conn)
			}
		})
	}()
	err = l.Laptop.Do(func() (err error) {
		result, err = client()
		return err
	})
	unix.Shutdown(listener, unix.SHUT_RDWR)
	<-ended
	return result, errors.Join(err, unix.Close(listener))
}

// patience ends a wait for a packet that was lost.
var patience = unix.Timeval{Usec: 200_000}

// bind opens a socket of the server, at the address that everybody connects to:
// without a PLAT that is an IPv6 address.
func bind(l *lab.Lab, kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet6{Port: benchPort, Addr: lab.Synthesize(l.PREF64(), lab.ServerIPv4).As16()}))
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 1024)
	} else if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// dial connects a socket to the server, in five seconds at most.
func dial(target netip.Addr, kind int) (int, error) {
	family := unix.AF_INET
	var to unix.Sockaddr
	if target.Is4() {
		to = &unix.SockaddrInet4{Port: benchPort, Addr: target.As4()}
	} else {
		family = unix.AF_INET6
		to = &unix.SockaddrInet6{Port: benchPort, Addr: target.As16()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if kind == unix.SOCK_STREAM {
		err = errors.Join(
			// Unlike a timeout of the socket it lets signals pass unnoticed.
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	} else {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)
	}
	err = errors.Join(err, unix.Connect(fd, to))
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect to %s: %w", target, err)
	}
	return fd, nil
}
