package main

import (
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tnat64d/internal/resolvconf"
)

func TestSystemResolvers(t *testing.T) {
	now := time.Unix(0, 0)
	own, other := netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("192.0.2.53")
	conf := resolvconf.Config{Servers: []netip.Addr{own, other}, Stubs: []netip.Addr{netip.MustParseAddr("127.0.0.53")}}
	r := &systemResolvers{
		listen: []netip.AddrPort{netip.AddrPortFrom(own, 53)},
		read:   func() (resolvconf.Config, error) { return conf, nil },
		now:    func() time.Time { return now },
		log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("127.0.0.53:53")}
	if got := r.list(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v: not itself, the stub last", got, want)
	}
	conf = resolvconf.Config{}
	if got := r.list(); len(got) != 2 {
		t.Errorf("read again at once: %v", got)
	}
	now = now.Add(resolversInterval)
	if got := r.list(); len(got) != 0 {
		t.Errorf("an old list: %v", got)
	}
	r.listen = []netip.AddrPort{netip.MustParseAddrPort("[::]:53")}
	conf.Stubs = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	now = now.Add(resolversInterval)
	if got := r.list(); len(got) != 0 {
		t.Errorf("asks itself on loopback: %v", got)
	}
}
