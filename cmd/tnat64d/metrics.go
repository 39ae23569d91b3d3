package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tnat64d/clat/steer"
	"tnat64d/siit"
)

// collector turns the engine's counters into Prometheus metrics when asked.
type collector struct{ stats func() stats }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tnat64_"+name, help, labels, nil)
}

var (
	packetsTranslated = describe("packets_translated_total", "Packets translated; a super-packet counts once.", "direction", "engine")
	bytesTranslated   = describe("bytes_translated_total", "Bytes of translated packets, IP headers included, as they were before translation.", "direction", "engine")
	packetsDeclined   = describe("kernel_declined_total", "Packets that the kernel engine left to user space, by roughly why.", "direction", "reason")
	packetsDropped    = describe("packets_dropped_total", "Packets not translated, by reason; those answered with an ICMP error as well.", "reason")
	icmpFragments     = describe("icmp_fragments_total", "Fragments of ICMP messages that were collected to be translated as a whole.")
	errorsSent        = describe("icmp_errors_sent_total", "ICMP errors sent in the translator's own name.")
	errorsLimited     = describe("icmp_errors_rate_limited_total", "ICMP errors not sent because of translation.icmp-errors-per-second.")
	ioErrors          = describe("tun_errors_total", "Packets that the kernel did not take from, or could not hand to, the engine.", "operation")
)

func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c collector) Collect(ch chan<- prometheus.Metric) {
	all := c.stats()
	s := all.user
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	to6, to4 := s.To6.Total(), s.To4.Total()
	count(packetsTranslated, to6.Packets, "4to6", "user")
	count(packetsTranslated, to4.Packets, "6to4", "user")
	count(bytesTranslated, to6.Bytes, "4to6", "user")
	count(bytesTranslated, to4.Bytes, "6to4", "user")
	kernel := func(direction string, k directionStats) {
		count(packetsTranslated, k.packets, direction, "kernel")
		count(bytesTranslated, k.bytes, direction, "kernel")
		for r, n := range k.declined {
			count(packetsDeclined, n, direction, steer.Declined(r).String())
		}
	}
	kernel("4to6", all.kernel.to6)
	kernel("6to4", all.kernel.to4)
	for r, n := range s.Drops {
		if siit.Reason(r) != siit.None {
			count(packetsDropped, n, siit.Reason(r).String())
		}
	}
	count(icmpFragments, s.ICMPFragments)
	count(errorsSent, s.Replies)
	count(errorsLimited, s.RateLimited)
	count(ioErrors, s.ReadErrors, "read")
	count(ioErrors, s.WriteErrors, "write")
}

// serveMetrics answers /metrics on addr until ctx ends.
func serveMetrics(ctx context.Context, addr string, d *datapath, log *slog.Logger) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return &failure{what: "cannot serve metrics", hint: "control.metrics needs an address of this host and a port that is free", err: err}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{d.Stats})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10}
	context.AfterFunc(ctx, func() { srv.Close() })
	go func() {
		if err := srv.Serve(l); err != nil && ctx.Err() == nil {
			log.Error("metrics are no longer served", "reason", err)
		}
	}()
	log.Info("serving metrics", "address", fmt.Sprintf("http://%s/metrics", l.Addr()))
	return nil
}
