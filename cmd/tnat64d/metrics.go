package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tnat64d/datapath"
	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/internal/control"
	"tnat64d/pref64"
	"tnat64d/siit"
)

// collector turns what the daemon counts and knows into Prometheus metrics
// when asked.
type collector struct{ d *tnat64d }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tnat64_"+name, help, labels, nil)
}

var (
	buildInfo         = describe("build_info", "Always 1; the label is the version of the daemon.", "version")
	packetsTranslated = describe("packets_translated_total", "Packets translated; a super-packet counts once.", "direction", "engine", "protocol")
	bytesTranslated   = describe("bytes_translated_total", "Bytes of translated packets, IP headers included, as they were before translation.", "direction", "engine", "protocol")
	packetsDeclined   = describe("kernel_declined_total", "Packets that the kernel engine left to user space, by reason.", "direction", "reason")
	packetsDropped    = describe("packets_dropped_total", "Packets not translated, by reason, including those answered with an ICMP error.", "reason")
	icmpFragments     = describe("icmp_fragments_total", "Fragments of ICMP messages that were collected to be translated as a whole.")
	icmpEvicted       = describe("icmp_fragmented_evicted_total", "Fragmented ICMP messages evicted by newer ones before all fragments had arrived.")
	errorsSent        = describe("icmp_errors_sent_total", "ICMP errors that the translator itself sent, to local programs (ipv4) or to the network (ipv6).", "family")
	errorsLimited     = describe("icmp_errors_rate_limited_total", "ICMP errors not sent because of translation.icmp-errors-per-second.", "family")
	ioErrors          = describe("tun_errors_total", "Packets lost between kernel and engine, because a read from the TUN or a write to it failed.", "operation")
	leakedIPv4        = describe("leaked_ipv4_packets_total", "IPv4 packets from a CLAT's address that were about to leave the host untranslated, and were dropped.")
	reconcileErrors   = describe("reconcile_errors_total", "Failed attempts to configure the host.")
	uplinkState       = describe("uplink_state", "1 for the state that the uplink is in, 0 for the others.", "uplink", "state")
	uplinkSince       = describe("uplink_state_since_timestamp_seconds", "Unix time at which the uplink entered its state.", "uplink")
	platState         = describe("plat_state", "1 for the state of the PLAT behind the uplink, 0 for the others.", "uplink", "state")
	flowsKnown        = describe("shared_address_flows", "Flows remembered on an IPv6 address that the CLAT shares with the host, by table: established, new (not answered, or closing), host (the host's own).", "uplink", "table")
	flowsOtherPort    = describe("shared_address_flows_other_port", "Of these, flows whose port on the wire is not that of their socket.", "uplink", "table")
	flowsEvicted      = describe("shared_address_flows_evicted_total", "Flows evicted from a full table by newer ones.", "uplink", "table")
	flowsRecovered    = describe("shared_address_flows_recovered_total", "Flows missing from the tables that were recovered from their IPv4 socket.", "uplink")
	prefixInfo        = describe("pref64_info", "1 for each known PREF64; in_use tells which one translates.", "uplink", "pref64", "source", "in_use")
	prefixExpiry      = describe("pref64_expiry_timestamp_seconds", "Unix time at which a PREF64 expires unless it is refreshed; absent for one that does not expire.", "uplink", "pref64", "source")
	prefixIgnored     = describe("pref64_ignored_total", "Router advertisements and DNS answers that PREF64 discovery ignored, by reason.", "uplink", "reason")
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, packetsTranslated, bytesTranslated, packetsDeclined, packetsDropped, icmpFragments, icmpEvicted, errorsSent, errorsLimited,
		ioErrors, leakedIPv4, reconcileErrors, uplinkState, uplinkSince, platState, flowsKnown, flowsOtherPort, flowsEvicted, flowsRecovered, prefixInfo, prefixExpiry, prefixIgnored,
	} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(buildInfo, 1, version)

	all := c.d.path.Stats()
	translated := func(direction, by string, t engine.Translated) {
		for p, n := range t {
			count(packetsTranslated, n.Packets, direction, by, engine.Protocol(p).String())
			count(bytesTranslated, n.Bytes, direction, by, engine.Protocol(p).String())
		}
	}
	s := all.User
	translated("4to6", "user", s.To6)
	translated("6to4", "user", s.To4)
	for direction, k := range map[string]datapath.KernelDirection{"4to6": all.Kernel.To6, "6to4": all.Kernel.To4} {
		translated(direction, "kernel", k.Translated)
		for r, n := range k.Declined {
			count(packetsDeclined, n, direction, steer.Declined(r).String())
		}
	}
	for r, n := range s.Drops {
		if siit.Reason(r) != siit.None {
			count(packetsDropped, n, siit.Reason(r).String())
		}
	}
	count(icmpFragments, s.ICMPFragments)
	count(icmpEvicted, s.ICMPEvicted)
	for family, n := range map[string]engine.ICMPErrors{"ipv4": s.Errors4, "ipv6": s.Errors6} {
		count(errorsSent, n.Sent, family)
		count(errorsLimited, n.Limited, family)
	}
	count(ioErrors, s.ReadErrors, "read")
	count(ioErrors, s.WriteErrors, "write")
	for why, n := range all.Dropped {
		count(packetsDropped, n, steer.Drop(why).String())
	}
	count(leakedIPv4, all.Dropped[steer.UntranslatedIPv4])

	// A loop that is stuck costs the rest of the metrics, and no more. Prometheus
	// waits 10 s by default.
	ctx, cancel := context.WithTimeout(c.d.ctx, 5*time.Second)
	defer cancel()
	var (
		now     control.Status
		failed  uint64
		ignored map[string][pref64.NumReasons]uint64
	)
	if !c.d.ask(ctx, func() {
		now, failed, ignored = status(c.d), c.d.errors, c.d.found.ignored()
	}) {
		return
	}
	count(reconcileErrors, failed)
	for _, u := range now.Uplinks {
		for _, state := range []control.State{control.Up, control.Moving, control.Starting, control.Held, control.Waiting, control.Standby, control.Failed} {
			gauge(uplinkState, one(u.State == state), u.Name, string(state))
		}
		gauge(uplinkSince, seconds(u.Since), u.Name)
		if u.CLAT != nil {
			for _, state := range []control.PLATState{control.PLATUnknown, control.PLATAnswering, control.PLATSilent} {
				gauge(platState, one(u.CLAT.PLAT.State == state), u.Name, string(state))
			}
			if f := u.CLAT.Flows; f != nil {
				for _, t := range f.Tables {
					gauge(flowsKnown, float64(t.Flows), u.Name, t.Table)
					gauge(flowsOtherPort, float64(t.OtherPort), u.Name, t.Table)
					count(flowsEvicted, t.Evicted, u.Name, t.Table)
				}
				count(flowsRecovered, f.Recovered, u.Name)
			}
		}
		prefixes := map[string]bool{} // two routers may advertise the same one
		for _, p := range u.PREF64 {
			key := p.Prefix.String() + p.Source
			if prefixes[key] {
				continue
			}
			prefixes[key] = true
			gauge(prefixInfo, 1, u.Name, p.Prefix.String(), p.Source, fmt.Sprint(p.InUse))
			if p.Expires != nil {
				gauge(prefixExpiry, seconds(*p.Expires), u.Name, p.Prefix.String(), p.Source)
			}
		}
	}
	for name, totals := range ignored {
		for r, n := range totals {
			if pref64.Reason(r) != pref64.None && n > 0 {
				count(prefixIgnored, n, name, pref64.Reason(r).String())
			}
		}
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
