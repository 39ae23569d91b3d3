package tuntest_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"

	"tnat64d/tun"
	"tnat64d/tun/tuntest"
)

const off = 64

// frame puts p behind headroom, as Write wants it.
func frame(p []byte) []byte { return append(make([]byte, off), p...) }

func TestPairCarriesSuperPackets(t *testing.T) {
	a, b := tuntest.Pair(4)
	super := bytes.Repeat([]byte("0123456789abcde"), 65535/15)
	header := tun.VnetHeader{Flags: 1, GSOType: 4, HdrLen: 60, GSOSize: 1420, CsumStart: 40, CsumOffset: 16}
	sent := frame(super)
	if err := a.Write(sent, off, header); err != nil {
		t.Fatal(err)
	}
	clear(sent) // the writer may use its buffer again

	buf := make([]byte, off+1<<16)
	n, h, err := b.Read(buf, off)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf[off:off+n], super) || h != header {
		t.Errorf("read %d bytes with %+v, want the %d that were written, with %+v", n, h, len(super), header)
	}
	if got := tun.DecodeVnetHeader(buf[off-tun.VnetHeaderLen:]); got != header {
		t.Errorf("the header in the buffer is %+v", got)
	}
}

func TestPairIsBounded(t *testing.T) {
	a, b := tuntest.Pair(2)
	for range 2 {
		if err := a.Write(frame([]byte{1}), off, tun.VnetHeader{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Write(frame([]byte{2}), off, tun.VnetHeader{}); !errors.Is(err, syscall.ENOBUFS) {
		t.Fatalf("third packet in a ring of two: %v", err)
	}
	// The other direction is another ring.
	if err := b.Write(frame([]byte{3}), off, tun.VnetHeader{}); err != nil {
		t.Error(err)
	}
	if _, _, err := b.Read(make([]byte, 100), off); err != nil {
		t.Error(err)
	}
	if err := a.Write(frame([]byte{4}), off, tun.VnetHeader{}); err != nil {
		t.Errorf("after one was read: %v", err)
	}
}

func TestShortBuffer(t *testing.T) {
	a, b := tuntest.Pair(1)
	for range 3 { // the slot of a lost packet comes back
		if err := a.Write(frame(make([]byte, 100)), off, tun.VnetHeader{}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Read(make([]byte, off+99), off); !errors.Is(err, io.ErrShortBuffer) {
			t.Fatalf("100 bytes into 99: %v", err)
		}
	}
}

func TestCloseUnparksReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := tuntest.Pair(1)
		results := make(chan error)
		for _, q := range []*tuntest.Queue{a, b} {
			go func() {
				_, _, err := q.Read(make([]byte, 100), off)
				results <- err
			}()
		}
		synctest.Wait() // both are parked
		a.Close()
		for range 2 {
			if err := <-results; !errors.Is(err, os.ErrClosed) {
				t.Errorf("parked reader: %v", err)
			}
		}
	})
}

func TestCloseLetsThePeerReadOn(t *testing.T) {
	a, b := tuntest.Pair(1)
	if err := a.Write(frame([]byte{1}), off, tun.VnetHeader{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := a.Read(make([]byte, 100), off); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read from the closed end: %v", err)
	}
	if err := b.Write(frame([]byte{1}), off, tun.VnetHeader{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write to the closed end: %v", err)
	}
	if n, _, err := b.Read(make([]byte, 100), off); n != 1 || err != nil {
		t.Errorf("what was left: %d bytes, %v", n, err)
	}
	if _, _, err := b.Read(make([]byte, 100), off); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after that: %v", err)
	}
}

func TestDoesNotAllocate(t *testing.T) {
	a, b := tuntest.Pair(1)
	sent, buf := frame(make([]byte, 1500)), make([]byte, off+1<<16)
	allocs := testing.AllocsPerRun(100, func() {
		if err := a.Write(sent, off, tun.VnetHeader{}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Read(buf, off); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a Write and a Read", allocs)
	}
}
