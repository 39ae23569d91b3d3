package e2e

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// bursts sends datagrams of mixed sizes in bursts that fit the sockets, so that
// none may be lost, altered or out of order. The server answers each. Within the
// flow, TTL, TOS and DF change in both directions, and some datagrams travel in
// fragments. With TNAT64_LONG there are 160,000 of them each way.
func (w *world) bursts(t *testing.T) {
	const (
		burst = 32
		port  = 4064
	)
	bursts := int(size(1000))
	if os.Getenv("TNAT64_LONG") != "" {
		bursts = 5000
	}
	if err := w.KeepOrder(); err != nil {
		t.Fatal(err)
	}
	var far *net.UDPConn
	err := w.Server.Do(func() (err error) {
		far, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(lab.ServerIPv4, port)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	defer func() {
		far.Close()
		<-ended
	}()
	go func() {
		defer close(ended)
		rnd := rand.New(rand.NewPCG(46, 46))
		buf := make([]byte, 1<<16)
		for {
			n, from, err := far.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				vary(far, rnd, n)
				far.WriteToUDPAddrPort(buf[:n], from)
			}
		}
	}()
	near, err := connect(w.Laptop, "udp4", service(port), "", netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	// A neighbour that is just being resolved lets packets overtake those that wait
	// for it.
	if err := answered(w.Laptop, "", patience); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(64, 64))
	all := pattern(1 << 14)
	sizes := []int{1, 64, 64, 512, 1200, 1400}
	back := make([]byte, 1<<16)
	var sent [burst][]byte
	for b := range bursts {
		size := sizes[rnd.IntN(len(sizes))]
		for i := range sent {
			n := size
			switch rnd.IntN(16) {
			case 0, 1:
				size = 1 + rnd.IntN(1400)
				n = size
			case 2:
				n = 1500 + rnd.IntN(2500) // in fragments
			}
			from := rnd.IntN(len(all) - n)
			sent[i] = slices.Clone(all[from : from+n])
			sent[i][0] = byte(i) // no two of a burst are equal
			vary(near.(*net.UDPConn), rnd, n)
			if _, err := near.Write(sent[i]); err != nil {
				t.Fatal(err)
			}
		}
		near.SetReadDeadline(time.Now().Add(patience))
		came := make([]int, 0, burst) // -1: an altered one
		for range sent {
			n, err := near.Read(back)
			if err != nil {
				t.Fatalf("burst %d: %v after %v", b, err, came)
			}
			came = append(came, slices.IndexFunc(sent[:], func(d []byte) bool { return slices.Equal(d, back[:n]) }))
		}
		if !slices.IsSorted(came) || came[0] < 0 {
			t.Fatalf("burst %d: these came back, in this order, -1 for an altered one: %v; sizes %v", b, came, lengths(sent[:]))
		}
	}
}

func lengths(datagrams [][]byte) []int {
	n := make([]int, len(datagrams))
	for i, d := range datagrams {
		n[i] = len(d)
	}
	return n
}

// vary changes the headers of what a socket sends from now on, sometimes. A datagram
// of n bytes that needs fragments goes without DF.
func vary(conn syscall.Conn, rnd *rand.Rand, n int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // it is closed
	}
	const whole = 1400
	discover := unix.IP_PMTUDISC_DONT
	if n <= whole && rnd.IntN(2) == 0 {
		discover = unix.IP_PMTUDISC_DO
	}
	options := map[int]int{unix.IP_MTU_DISCOVER: discover}
	if rnd.IntN(4) == 0 {
		options[unix.IP_TTL] = 40 + rnd.IntN(3)
	}
	if rnd.IntN(4) == 0 {
		options[unix.IP_TOS] = []int{0, 0x10, 0x28, 0xb8}[rnd.IntN(4)]
	}
	raw.Control(func(fd uintptr) {
		for name, value := range options {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, name, value)
		}
	})
}
