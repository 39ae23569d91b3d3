package main

import (
	"fmt"
	"strings"
	"time"

	"tnat64d/internal/control"
)

// gatewayText is what status prints about tnat64-gateway.
func gatewayText(s control.Status, now time.Time) string {
	g := s.Gateway
	var t statusLines
	t.line("%s", gatewayHeadline(s, now))
	if !g.Up {
		return t.String()
	}
	t.line("")
	t.line("NAT64 on %s", g.TUN)
	t.row("prefix", g.Prefix.String())
	t.row("inside", fmt.Sprintf("%s, MTU %d", strings.Join(g.Inside, ", "), g.MTU6))
	t.row("outside", fmt.Sprintf("%s, MTU %d", either(strings.Join(g.Outside, ", "), "no IPv4 default route"), g.MTU4))
	t.row("pool", fmt.Sprintf("%s: %s", g.Pool, mapsWords(g.Maps)))
	t.row("NAT44", g.NAT44)
	conntrackText(&t, g.Conntrack)
	t.row("engine", engineWords(g.Engine, g.EngineWhy))
	how := []string{count(uint64(g.Queues), "queue")}
	if g.Attached != "" {
		how = append([]string{"kernel engine attached by " + g.Attached}, how...)
	}
	if g.Offloads != "" {
		how = append(how, "offloads "+g.Offloads)
	}
	t.row("TUN", strings.Join(how, ", "))
	var traffic []string
	for _, d := range []struct{ direction, words string }{{"6to4", "out"}, {"4to6", "in"}} {
		var packets, bytes, kernel uint64
		for _, n := range g.Traffic {
			if n.Direction == d.direction {
				packets, bytes = packets+n.Packets, bytes+n.Bytes
			}
			if n.Direction == d.direction && n.Engine == "kernel" {
				kernel += n.Packets
			}
		}
		traffic = append(traffic, fmt.Sprintf("%s: %d packets, %d bytes; %d packets by the kernel engine", d.words, packets, bytes, kernel))
	}
	t.row("traffic", traffic...)
	var drops []string
	for _, d := range g.Drops[:min(len(g.Drops), maxGatewayDrops)] {
		drops = append(drops, fmt.Sprintf("%d %s: %s", d.Packets, d.Reason, d.Explanation))
	}
	t.row("not translated", drops...)
	if len(g.Decline) > 0 {
		t.row("slow path", "translated or refused in user space, by reason")
		t.drops("", g.Decline)
	}
	t.row("ICMP errors", fmt.Sprintf("%d sent, %d withheld by the rate limit", g.Errors.Sent, g.Errors.Limited))
	dns64Text(&t, g.DNS64)
	advertiseText(&t, g.Advertise)
	t.line("")
	t.line("tnat64-gateway %s, running for %s, configuration %s", s.Version, ago(now.Sub(s.Started)), s.Config)
	return t.String()
}

// maxGatewayDrops bounds how many reasons status lists; -json has all.
const maxGatewayDrops = 8

func gatewayHeadline(s control.Status, now time.Time) string {
	g := s.Gateway
	switch {
	case !g.Up:
		return "NAT64 is not up yet."
	case len(g.Outside) == 0:
		return "NAT64 is up but cannot reach IPv4: there is no IPv4 default route."
	case g.Maps.Dynamic >= g.Maps.Size:
		return fmt.Sprintf("NAT64 works for %d hosts; the pool is exhausted, so others get no address.", g.Maps.Dynamic+g.Maps.Static)
	case g.Conntrack.NearlyFull():
		return "NAT64 works, but connection tracking is more than 90 % full; when it is full, no host can open connections."
	}
	return fmt.Sprintf("NAT64 works: %s have an address of the pool.", mapsWords(g.Maps))
}

func mapsWords(m control.Maps) string {
	s := fmt.Sprintf("%d of %d hosts", m.Dynamic, m.Size)
	if m.Static > 0 {
		s += fmt.Sprintf(" and %d static", m.Static)
	}
	return s
}

// gatewayChanges says what is new since old, which is nil at the beginning.
func gatewayChanges(old, s *control.Status, now time.Time) (lines []string) {
	if is := gatewayHeadline(*s, now); old == nil || old.Gateway == nil || gatewayHeadline(*old, now) != is {
		lines = append(lines, is)
	}
	if s.Gateway.Up && (old == nil || old.Gateway == nil || strings.Join(old.Gateway.Outside, ",") != strings.Join(s.Gateway.Outside, ",")) {
		lines = append(lines, "outside: "+either(strings.Join(s.Gateway.Outside, ", "), "none"))
	}
	if e := engineWords(s.Gateway.Engine, s.Gateway.EngineWhy); s.Gateway.Up && (old == nil || old.Gateway == nil || engineWords(old.Gateway.Engine, old.Gateway.EngineWhy) != e) {
		lines = append(lines, "engine: "+e)
	}
	return lines
}
