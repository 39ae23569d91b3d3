package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// pulse is a program on the laptop that sends a datagram to the server every
// few milliseconds, by whatever route and source the laptop has at that
// moment, and notes which were answered.
type pulse struct {
	conn net.PacketConn
	to   net.Addr
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	sent     []time.Time
	answered []bool
}

const beat = 10 * time.Millisecond

// startPulse sends to a server's address of either family.
func startPulse(t *testing.T, l *lab.Lab, server netip.Addr) *pulse {
	t.Helper()
	p := &pulse{stop: make(chan struct{}), to: &net.UDPAddr{IP: server.AsSlice(), Port: lab.PortEcho}}
	network := "udp6"
	if server.Is4() {
		network = "udp4"
	}
	err := l.Laptop.Do(func() (err error) {
		p.conn, err = net.ListenPacket(network, "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.done.Go(p.send)
	p.done.Go(p.receive)
	t.Cleanup(func() {
		close(p.stop)
		p.conn.Close()
		p.done.Wait()
	})
	return p
}

func (p *pulse) send() {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case now := <-ticker.C:
			p.mu.Lock()
			n := len(p.sent)
			p.sent, p.answered = append(p.sent, now), append(p.answered, false)
			p.mu.Unlock()
			p.conn.WriteTo(binary.BigEndian.AppendUint32(nil, uint32(n)), p.to) // without a route it is not answered
		}
	}
}

func (p *pulse) receive() {
	b := make([]byte, 100)
	for {
		n, _, err := p.conn.ReadFrom(b)
		if err != nil {
			select {
			case <-p.stop:
				return
			default:
				continue // an ICMP error about an earlier datagram
			}
		}
		if n != 4 {
			continue
		}
		p.mu.Lock()
		if i := int(binary.BigEndian.Uint32(b)); i < len(p.answered) {
			p.answered[i] = true
		}
		p.mu.Unlock()
	}
}

// flows waits until datagrams are answered again.
func (p *pulse) flows(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	from := len(p.sent)
	p.mu.Unlock()
	eventually(t, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, answered := range p.answered[min(from, len(p.answered)):] {
			if answered {
				return nil
			}
		}
		return errSilent
	})
}

// gap is a stretch of time without IPv4.
type gap struct {
	longest time.Duration // between the first unanswered datagram in a row and the next one answered
	lost    int           // unanswered datagrams
	sent    int
}

// since returns what has been lost since a moment, except datagrams that may still
// be on their way.
func (p *pulse) since(from time.Time) gap {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.answered) - 1
	for last >= 0 && !p.answered[last] {
		last--
	}
	var g gap
	var began time.Time
	for i, sent := range p.sent[:last+1] {
		switch {
		case sent.Before(from):
			continue
		case !p.answered[i]:
			g.lost++
			if began.IsZero() {
				began = sent
			}
		case !began.IsZero():
			g.longest = max(g.longest, sent.Sub(began))
			began = time.Time{}
		}
		g.sent++
	}
	return g
}
