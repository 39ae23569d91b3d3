package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/rogpeppe/go-internal/testscript"

	"tnat64d/datapath/engine"
	"tnat64d/internal/control"
	"tnat64d/siit"
)

// The packets of every fake daemon: an UDP packet of 28 bytes and its
// translation.
var (
	traced4, _ = hex.DecodeString("4500001c0001000040110000c0000001c6336401" + "03e807d000080000")
	traced6, _ = hex.DecodeString("6000000000081140" + "20010db800000000000000000000c1a7" + "0064ff9b0000000000000000c6336401" + "03e807d000080000")
)

// fakeDaemon has the state of busy and, while it is traced, a packet of each
// kind again and again.
type fakeDaemon struct {
	stop          func()
	asked, traced chan struct{} // cap 1: somebody has

	mu  sync.Mutex
	end func() // of the packets
}

func (d *fakeDaemon) Status() control.Status {
	note(d.asked)
	return busy()
}

func note(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (d *fakeDaemon) Nudge(control.Nudge, control.Peer) error { return nil }

func (d *fakeDaemon) Trace(see func(string, engine.Seen)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if see == nil {
		d.end()
		return nil
	}
	note(d.traced)
	ctx, cancel := context.WithCancel(context.Background())
	d.end = cancel
	go func() {
		for ctx.Err() == nil {
			for _, s := range tracedPackets() {
				see("wlan0", s)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	return nil
}

// tracedPackets is one of each verdict.
func tracedPackets() []engine.Seen {
	packet := func(b []byte) siit.Packet { return siit.Packet{Buf: b} }
	return []engine.Seen{
		{Packet: traced4, Result: siit.Result{Verdict: siit.Translated, Packets: []siit.Packet{packet(traced6), packet(traced6)}}},
		{Packet: traced6, Result: siit.Result{Verdict: siit.Translated, Packets: []siit.Packet{packet(traced4)}}},
		{Packet: traced4, Result: siit.Result{Verdict: siit.Reply, Reason: siit.TTLExceeded, Packets: []siit.Packet{packet(traced4)}}},
		{Packet: traced4, Result: siit.Result{Verdict: siit.Reply, Reason: siit.TTLExceeded, Packets: []siit.Packet{packet(traced4)}}, Limited: true},
		{Packet: traced4, Result: siit.Result{Reason: siit.FragmentedICMP}, Collected: true},
		{Packet: []byte{0}, Result: siit.Result{Reason: siit.NotIP}},
	}
}

// daemon is the script command:
//
//	daemon SOCKET         start one
//	daemon asked, traced  wait until a client asks for the state, or traces
//	daemon stop           end it
func daemon(ts *testscript.TestScript, neg bool, args []string) {
	wait := func(c chan struct{}) {
		select {
		case <-c:
		case <-time.After(60 * time.Second):
			ts.Fatalf("not %s for 20 s", args[0])
		}
	}
	switch args[0] {
	case "asked":
		wait(running(ts).asked)
		return
	case "traced":
		wait(running(ts).traced)
		return
	case "stop":
		running(ts).stop()
		return
	}
	d := &fakeDaemon{asked: make(chan struct{}, 1), traced: make(chan struct{}, 1), end: func() {}}
	s, err := control.NewServer(control.CLATDaemon, ts.MkAbs(args[0]), d, slog.New(slog.DiscardHandler), uint32(os.Getuid()))
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	d.stop = sync.OnceFunc(func() { cancel(); ts.Check(<-done) })
	daemons.Store(ts.Getenv("WORK"), d)
	ts.Defer(d.stop)
}

// daemons finds a script's latest daemon by its directory.
var daemons sync.Map

func running(ts *testscript.TestScript) *fakeDaemon {
	d, ok := daemons.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("there is no daemon")
	}
	return d.(*fakeDaemon)
}

// unpcapng writes packets, their comments and directions as text.
func unpcapng(ts *testscript.TestScript, neg bool, args []string) {
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	ts.Check(err)
	var b strings.Builder
	fmt.Fprintf(&b, "link type %d, by %s\n", r.LinkType(), r.SectionInfo().Application)
	for {
		data, ci, o, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		if age := time.Since(ci.Timestamp); age < 0 || age > time.Minute {
			ts.Fatalf("a packet has the time %v", ci.Timestamp)
		}
		direction := map[pcapgo.NgEpbFlag]string{pcapgo.NgEpbFlagDirectionInbound: "in", pcapgo.NgEpbFlagDirectionOutbound: "out"}[o.Flags.Direction]
		fmt.Fprintf(&b, "%s %x %d %q\n", direction, data, ci.Length, o.Comments)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o666))
}
