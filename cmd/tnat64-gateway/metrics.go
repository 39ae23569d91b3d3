package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"tnat64d/datapath"
	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/plat/dns64"
	"tnat64d/siit"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// The metrics that tnat64d has too have the same names.
var (
	buildInfo         = desc("tnat64_build_info", "Always 1; the label is the version of the daemon.", "version")
	packetsTranslated = desc("tnat64_packets_translated_total", "Packets translated; a super-packet counts once.", "direction", "engine", "protocol")
	bytesTranslated   = desc("tnat64_bytes_translated_total", "Bytes of translated packets, IP headers included, as they were before translation.", "direction", "engine", "protocol")
	packetsDeclined   = desc("tnat64_kernel_declined_total", "Packets that the kernel engine left to user space, by reason.", "direction", "reason")
	packetsDropped    = desc("tnat64_packets_dropped_total", "Packets not translated, by reason, including those answered with an ICMP error.", "reason")
	errorsSent        = desc("tnat64_icmp_errors_sent_total", "ICMP errors that the translator itself sent, towards IPv4 or IPv6.", "family")
	errorsLimited     = desc("tnat64_icmp_errors_rate_limited_total", "ICMP errors not sent because of the rate limit.", "family")
	poolSize          = desc("tnat64_gateway_pool_addresses", "IPv4 addresses of the pool that hosts can get.")
	dnsQueries        = desc("tnat64_gateway_dns64_queries_total", "DNS queries, answered or not.", "outcome")
	dnsCached         = desc("tnat64_gateway_dns64_cached_responses", "Responses in the cache of DNS64.")
	advertisements    = desc("tnat64_gateway_router_advertisements_total", "Router advertisements sent and failed, solicitations received, advertisements of other routers, and how many of those contradict ours.", "interface", "kind")
	maps              = desc("tnat64_gateway_maps", "Hosts that have an IPv4 address of the pool.", "kind")
	conntrackEntries  = desc("tnat64_gateway_conntrack_entries", "Entries of the kernel's connection tracking in the gateway's network namespace.")
	conntrackMax      = desc("tnat64_gateway_conntrack_entries_max", "Maximum number of entries (net.netfilter.nf_conntrack_max); 0: no limit.")
	conntrackDropped  = desc("tnat64_gateway_conntrack_dropped_total", "Packets that the kernel dropped because it could not track their connection, for lack of entries or ports (packets), and unanswered connections that it evicted from the full table (early).", "kind")
)

// collector reads the metrics of the present NAT64.
type collector struct{ d *gateway }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{buildInfo, packetsTranslated, bytesTranslated, packetsDeclined, packetsDropped, errorsSent, errorsLimited, poolSize, maps, dnsQueries, dnsCached, advertisements, conntrackEntries, conntrackMax, conntrackDropped} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	gauge(buildInfo, 1, version)
	if p := c.d.dns64.Load(); p != nil {
		stats := p.Stats()
		for _, o := range dns64.Outcomes() {
			count(dnsQueries, stats.Outcomes[o], o.String())
		}
		gauge(dnsCached, stats.Cached)
	}
	for _, a := range advertiseStatus(c.d.advertise.Load()) {
		for kind, n := range map[string]uint64{"sent": a.Sent, "failed": a.Failed, "solicitations": a.Solicitations, "others": a.Others, "disagreements": a.Disagreements} {
			count(advertisements, n, a.Interface, kind)
		}
	}
	n := c.d.nat64.Load()
	if n == nil {
		return
	}
	s := n.Status()
	translated := func(direction, by string, t engine.Translated) {
		for p, n := range t {
			count(packetsTranslated, n.Packets, direction, by, engine.Protocol(p).String())
			count(bytesTranslated, n.Bytes, direction, by, engine.Protocol(p).String())
		}
	}
	u := s.Traffic.User
	translated("4to6", "user", u.To6)
	translated("6to4", "user", u.To4)
	for direction, k := range map[string]datapath.KernelDirection{"4to6": s.Traffic.Kernel.To6, "6to4": s.Traffic.Kernel.To4} {
		translated(direction, "kernel", k.Translated)
		for r, n := range k.Declined {
			count(packetsDeclined, n, direction, steer.Declined(r).String())
		}
	}
	for r, n := range s.Traffic.Dropped {
		count(packetsDropped, n, steer.Drop(r).String())
	}
	for r, n := range u.Drops {
		if siit.Reason(r) != siit.None {
			count(packetsDropped, n, siit.Reason(r).String())
		}
	}
	for c, n := range s.NAT44 {
		count(packetsDropped, n, string(c))
	}
	for family, e := range map[string]engine.ICMPErrors{"ipv4": u.Errors4, "ipv6": u.Errors6} {
		count(errorsSent, e.Sent, family)
		count(errorsLimited, e.Limited, family)
	}
	gauge(poolSize, s.Table.Size)
	gauge(maps, s.Table.Static, "static")
	gauge(maps, s.Table.Dynamic, "dynamic")
	if k := s.Conntrack; k != nil {
		gauge(conntrackEntries, k.Entries)
		gauge(conntrackMax, k.Max)
		count(conntrackDropped, k.Dropped, "packets")
		count(conntrackDropped, k.EarlyDropped, "early")
	}
}
