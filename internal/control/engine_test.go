package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"tnat64d/datapath/engine"
	"tnat64d/siit"
	"tnat64d/tun"
	"tnat64d/tun/tuntest"
)

// overEngine is a daemon with one uplink and one engine.
type overEngine struct {
	fake
	engine *engine.Engine
}

func (o *overEngine) Trace(see func(string, engine.Seen)) error {
	if see == nil {
		o.engine.SetTrace(nil)
		return nil
	}
	o.engine.SetTrace(func(p engine.Seen) { see("wlan0", p) })
	return nil
}

// All the way from a packet in a TUN to a client: as it came, which the engine
// overwrites at once, and as it went out, which a second reader has seen.
func TestTraceOfEngine(t *testing.T) {
	tr, err := siit.New(siit.Config{Mapping: siit.Mapping{
		PREF64: netip.MustParsePrefix("64:ff9b::/96"),
		CLAT:   siit.Pair{IPv4: netip.MustParseAddr("192.0.0.1"), IPv6: netip.MustParseAddr("2001:db8::c1a7")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	mine, kernels := tuntest.Pair(16)
	e := engine.New(engine.Options{Queues: []engine.Queue{mine}, Translator: tr, ICMPErrorsPerSecond: 100})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- e.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	r := start(t, quick)
	r.Server.tracing.backend = &overEngine{engine: e}

	in := udp4(3000)
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(in[i:]))
	}
	binary.BigEndian.PutUint16(in[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(in[24:], 3008)

	var out [][]byte
	enough := errors.New("enough")
	err = r.Trace(t.Context(), Filter{Snaplen: MaxSnaplen}, func() {
		if err := kernels.Write(append(make([]byte, siit.Headroom), in...), siit.Headroom, tun.VnetHeader{}); err != nil {
			t.Error(err)
		}
		for range 3 {
			buf := make([]byte, 2000)
			n, _, err := kernels.Read(buf, siit.Headroom)
			if err != nil {
				t.Error(err)
			}
			out = append(out, buf[siit.Headroom:siit.Headroom+n])
		}
	}, func(rec Record) error {
		if rec.Verdict != Translated || rec.Uplink != "wlan0" || !bytes.Equal(rec.In, in) || len(rec.Out) != len(out) {
			t.Errorf("%s of %s: %d bytes became %d packets", rec.Verdict, rec.Uplink, len(rec.In), len(rec.Out))
			return enough
		}
		for i := range out {
			if !bytes.Equal(rec.Out[i].Data, out[i]) {
				t.Errorf("packet %d is recorded as % x\nand went out as       % x", i, rec.Out[i].Data, out[i])
			}
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}
