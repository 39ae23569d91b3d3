package main

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/plat"
	"tnat64d/plat/nat44"
)

func TestStatusOfDNS64AndAdvertisements(t *testing.T) {
	f, err := config.ParseGateway("t.toml", []byte("[dns64]\nlisten = [\"[::1]:5399\"]\n[advertise]\ninterfaces = [\"lan0\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	d := &gateway{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if s := (backend{d}).Status(); s.Gateway.DNS64 != nil || s.Gateway.Advertise != nil {
		t.Errorf("parts that do not run: %+v", s.Gateway)
	}
	dns, err := d.newDNS64(f.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	advertise, err := d.newAdvertise(f.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	d.dns64.Store(dns.(*dnsPart))
	d.advertise.Store(advertise.(*advertisePart))
	s := backend{d}.Status().Gateway
	if s.DNS64 == nil || len(s.DNS64.Listen) != 1 || len(s.Advertise) != 1 || s.Advertise[0].Interface != "lan0" {
		t.Errorf("%+v, %+v", s.DNS64, s.Advertise)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{d})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, want := range []string{"tnat64_gateway_dns64_queries_total", "tnat64_gateway_dns64_cached_responses", "tnat64_gateway_router_advertisements_total"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("no metric %s in %v", want, names)
		}
	}
}

func TestStatusOfConntrack(t *testing.T) {
	if g := gatewayStatus(plat.Status{}); g.Conntrack != nil {
		t.Errorf("nothing is tracked: %+v", g.Conntrack)
	}
	g := gatewayStatus(plat.Status{Conntrack: &nat44.Conntrack{Entries: 1, Max: 2, Dropped: 3, EarlyDropped: 4}})
	if want := (control.Conntrack{Entries: 1, Max: 2, Dropped: 3, EarlyDropped: 4}); g.Conntrack == nil || *g.Conntrack != want {
		t.Errorf("%+v, want %+v", g.Conntrack, want)
	}
}
