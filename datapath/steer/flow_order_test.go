package steer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/datapath/engine"
	"tnat64d/internal/rps"
	"tnat64d/siit"
	tundev "tnat64d/tun"
)

// userSpace serves the TUN by the other engine, as the daemon does.
func (l *lab) userSpace(t *testing.T, d *tundev.Device, s *Steering, cfg siit.Config) *engine.Engine {
	t.Helper()
	tr, err := siit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	progress, err := s.Progress(false)
	if err == nil {
		err = d.SetQueueProgram(s.QueueProgram())
	}
	if err != nil {
		t.Fatal(err)
	}
	o := engine.Options{Translator: tr, UDPSegments: d.Offloads.USO, OnFinished: func(queue int, b engine.Batch) {
		progress[queue].Finished(b.Packets, d.Queues[queue].Empty)
	}}
	for _, q := range d.Queues {
		o.Queues = append(o.Queues, q)
	}
	e := engine.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return e
}

// newOrderLab is a lab whose TUN has several queues and the real user space.
func newOrderLab(t *testing.T, attach Attach, queues int) (*lab, *Steering) {
	t.Helper()
	return newQueueLab(t, attach, queues, true)
}

// newQueueLab is an order lab in which the kernel engine may be missing.
func newQueueLab(t *testing.T, attach Attach, queues int, kernel bool) (*lab, *Steering) {
	t.Helper()
	l := newLab(t)
	// The kernel itself keeps no order where a sender moves between processors, and
	// while packets wait for neighbour discovery.
	for h, neighbour := range map[*host]netlink.Neigh{
		l.laptop: {LinkIndex: l.laptop.index(t, l.uplink), IP: router6.AsSlice(), HardwareAddr: l.routerMAC, State: netlink.NUD_PERMANENT},
		l.router: {LinkIndex: l.router.index(t, "rt0"), IP: clat6.AsSlice(), HardwareAddr: l.laptopMAC, State: netlink.NUD_PERMANENT},
	} {
		h.do(t, func() error { return errors.Join(rps.OneProcessor(h.nl), h.nl.NeighSet(&neighbour)) })
	}
	cfg := plainConfig
	var d *tundev.Device
	l.laptop.do(t, func() (err error) { d, err = tundev.Open("clat1", queues); return err })
	t.Cleanup(func() { d.Close() })
	l.tun = &tun{name: "clat1", index: d.Index}
	l.laptop.do(t, func() error { return l.laptop.nl.LinkSetIP6AddrGenMode(l.laptop.link(t, "clat1"), 1) })
	l.laptop.up(t, "clat1")
	l.ipv4On(t, "clat1", cfg, 1480)
	var s *Steering
	l.laptop.do(t, func() (err error) {
		s, err = New(Config{
			Uplink: l.laptop.index(t, l.uplink), TUN: d.Index, Ours: cfg.Mapping.Ours(),
			Attach: attach, Queues: queues, KernelEngine: kernel,
		})
		return err
	})
	t.Cleanup(func() { s.Close() })
	l.userSpace(t, d, s, cfg)
	if kernel {
		if err := s.SetTranslation(translationOf(cfg)); err != nil {
			t.Fatal(err)
		}
	}
	return l, s
}

// socket opens a datagram socket of a host.
func (h *host) socket(t *testing.T, network string, local netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c net.PacketConn
	h.do(t, func() (err error) { c, err = net.ListenPacket(network, local.String()); return err })
	t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

func control(t *testing.T, c syscall.Conn, f func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		if ctl := raw.Control(func(fd uintptr) { err = f(int(fd)) }); ctl != nil {
			err = ctl
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mixes are sizes of datagrams of one flow, over and over: some are simple,
// some go through user space because they need fragments or come in them.
var mixes = map[string][]int{
	"large and small":              {1300, 10},
	"fragments and small":          {3000, 10, 20},
	"fragments, large and small":   {4000, 10, 1300, 10, 1240, 1400, 1, 2, 3},
	"a burst of small after large": {1400, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
}

// Datagrams of a flow arrive in the order in which they were sent, whichever
// engine translates them (RFC 7915 sections 4 and 5).
func TestFlowOrder(t *testing.T) {
	for name, attach := range attachments() {
		for _, queues := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d queues", name, queues), func(t *testing.T) {
				l, s := newOrderLab(t, attach, queues)
				near := l.laptop.socket(t, "udp4", netip.AddrPortFrom(clat4, 0))
				far := l.router.socket(t, "udp6", netip.AddrPortFrom(plat6, 0))
				port := func(c *net.UDPConn) uint16 { return uint16(c.LocalAddr().(*net.UDPAddr).Port) }
				// Without DF, so that the larger ones need fragments on IPv6.
				control(t, near, func(fd int) error {
					return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
				})
				for _, c := range []*net.UDPConn{near, far} {
					control(t, c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) })
				}
				for mix, sizes := range mixes {
					t.Run("out/"+mix, func(t *testing.T) {
						inOrder(t, near, far, netip.AddrPortFrom(plat4, port(far)), sizes)
					})
					t.Run("in/"+mix, func(t *testing.T) {
						inOrder(t, far, near, netip.AddrPortFrom(clat6, port(near)), sizes)
					})
				}
				c := engineCounters(t, s)
				for way, d := range map[string]DirectionCounters{"out": c.To6, "in": c.To4} {
					if d.UDP.Packets == 0 || d.Declined[DeclinedOrder] == 0 {
						t.Errorf("%s: the test tests little: %+v", way, d)
					}
				}
				t.Run("user space alone", func(t *testing.T) {
					if err := s.SetTranslation(nil); err != nil {
						t.Fatal(err)
					}
					sizes := mixes["fragments, large and small"]
					inOrder(t, near, far, netip.AddrPortFrom(plat4, port(far)), sizes)
					inOrder(t, far, near, netip.AddrPortFrom(clat6, port(near)), sizes)
				})
			})
		}
	}
}

// inOrder sends numbered datagrams in bursts that no queue on the way is too
// short for.
func inOrder(t *testing.T, from, to *net.UDPConn, dst netip.AddrPort, sizes []int) {
	t.Helper()
	const bursts, burst = 60, 64
	var got []uint32
	var received atomic.Int64
	done := make(chan struct{})
	to.SetReadDeadline(time.Now().Add(3 * time.Minute))
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for len(got) < bursts*burst {
			n, err := to.Read(b)
			if err != nil {
				return
			}
			if n >= 4 {
				got = append(got, binary.BigEndian.Uint32(b))
				received.Add(1)
			}
		}
	}()
	for i := range bursts {
		for j := range burst {
			n := i*burst + j
			b := make([]byte, 4+sizes[n%len(sizes)])
			binary.BigEndian.PutUint32(b, uint32(n))
			if _, err := from.WriteToUDPAddrPort(b, dst); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(60 * time.Second); received.Load() < int64((i+1)*burst) && time.Now().Before(deadline); {
			time.Sleep(100 * time.Microsecond)
		}
	}
	<-done
	if len(got) != bursts*burst {
		t.Errorf("%d of %d datagrams arrived", len(got), bursts*burst)
	}
	if !slices.IsSorted(got) {
		at := 0
		for i := 1; i < len(got); i++ {
			if got[i] < got[i-1] {
				at = i
				break
			}
		}
		t.Errorf("out of order: %v", got[max(0, at-8):min(len(got), at+8)])
	}
}
