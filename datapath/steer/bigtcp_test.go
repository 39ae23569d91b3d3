package steer

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Super-packets longer than 64 KiB (BIG TCP) arrive whole, or where the kernel
// has none of IPv4, or user space translates, in order, and no segment is lost on the
// way.
func TestBigTCP(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) { bigTCP(t, attach, true) })
	}
	t.Run("user engine", func(t *testing.T) { bigTCP(t, Auto, false) })
}

func bigTCP(t *testing.T, attach Attach, kernel bool) {
	const length = 185_000
	l, s := newQueueLab(t, attach, 2, kernel)
	up, down := l.laptop.link(t, l.uplink), l.router.link(t, "rt0")
	if up.Attrs().TSOMaxSize < length {
		t.Skip("the kernel has no BIG TCP (5.19)")
	}
	for _, err := range []error{
		l.laptop.nl.LinkSetGSOMaxSize(up, length), l.laptop.nl.LinkSetGROMaxSize(up, length),
		l.router.nl.LinkSetGSOMaxSize(down, length), l.router.nl.LinkSetGROMaxSize(down, length),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !kernel { // as clat/plan has it for such an uplink
		if err := l.laptop.nl.LinkSetTxQLen(l.laptop.link(t, "clat1"), 8000); err != nil {
			t.Fatal(err)
		}
	}
	data := make([]byte, 32<<20)
	r := rand.NewChaCha8([32]byte{})
	r.Read(data)
	want := sha256.Sum256(data)

	var ln net.Listener
	l.router.do(t, func() (err error) {
		ln, err = net.Listen("tcp6", netip.AddrPortFrom(plat6, 0).String())
		return err
	})
	defer ln.Close()
	var c net.Conn
	l.laptop.do(t, func() (err error) {
		port := uint16(ln.Addr().(*net.TCPAddr).Port)
		c, err = net.DialTimeout("tcp4", netip.AddrPortFrom(plat4, port).String(), 60*time.Second)
		return err
	})
	defer c.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	far.SetDeadline(time.Now().Add(60 * time.Second))

	before := EngineCounters{}.To4
	if kernel {
		before = engineCounters(t, s).To4
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(far, bytes.NewReader(data))
		sent <- err
	}()
	got := sha256.New()
	if _, err := io.CopyN(got, c, int64(len(data))); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if [sha256.Size]byte(got.Sum(nil)) != want {
		t.Error("other bytes arrived")
	}
	control(t, far.(*net.TCPConn), func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Total_retrans > uint32(len(data)/1428/20) {
			t.Errorf("%d segments of %d were sent again", info.Total_retrans, len(data)/1428)
		}
		return err
	})
	if !kernel || l.laptop.link(t, "clat1").Attrs().GSOIPv4MaxSize == 0 {
		return // they are split for user space
	}
	now := engineCounters(t, s).To4
	packets, bytes := now.TCP.Packets-before.TCP.Packets, now.TCP.Bytes-before.TCP.Bytes
	if bytes < uint64(len(data)) || now.Declined != before.Declined {
		t.Errorf("the kernel engine translated %d packets with %d bytes; declined %v, before %v", packets, bytes, now.Declined, before.Declined)
	}
	if t.Logf("%d packets", packets); packets > uint64(len(data)/30_000) {
		t.Errorf("%d bytes came in %d packets: the test tests little", bytes, packets)
	}
}
