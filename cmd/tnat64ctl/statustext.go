package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"tnat64d/internal/control"
)

// statusLines builds the text of a status: headings, and rows of a label and texts.
type statusLines struct{ strings.Builder }

func (t *statusLines) line(format string, args ...any) {
	fmt.Fprintf(t, format, args...)
	t.WriteByte('\n')
}

// row writes one line for each text that is not empty, the first behind the label.
func (t *statusLines) row(label string, texts ...string) {
	for _, s := range texts {
		if s != "" {
			t.line("  %-17s %s", label, s)
			label = ""
		}
	}
}

func (t *statusLines) uplink(u *control.Uplink, now time.Time) {
	t.line("%s: %s, since %s (%s)%s", u.Name, stateWords(u.State), at(u.Since, now), ago(now.Sub(u.Since)), colon(u.Why))
	t.row("warning", u.Warnings...)
	var prefixes []string
	for _, p := range u.PREF64 {
		prefixes = append(prefixes, prefixWords(p, now))
	}
	if prefixes == nil {
		prefixes = []string{"none known"}
	}
	t.row("NAT64 prefix", prefixes...)
	t.row("discovery", u.Discovery)
	if u.CLAT != nil {
		t.clat(u, now)
	}
	if u.StandbyIPv6 != nil {
		t.row("standby address", u.StandbyIPv6.String()+", for a CLAT when native IPv4 goes")
	}
	var resolvers []string
	for _, a := range u.Resolvers {
		resolvers = append(resolvers, a.String())
	}
	t.row("DNS servers", strings.Join(resolvers, ", "))
	var ignored []string
	for _, i := range u.Ignored {
		ignored = append(ignored, ignoredWords(i, now))
	}
	t.row("ignored", ignored...)
	var history []string
	for _, c := range u.History[max(0, len(u.History)-maxHistory):] {
		history = append(history, fmt.Sprintf("%s  %s%s", at(c.Time, now), stateWords(c.State), colon(c.Why)))
	}
	t.row("history", history...)
}

// maxHistory is the number of changes shown; -json has all.
const maxHistory = 8

func prefixWords(p control.PREF64, now time.Time) string {
	s := p.Prefix.String()
	if p.InUse {
		s += ", in use"
	}
	from := ""
	if p.From != nil {
		from = " " + p.From.String()
	}
	switch p.Source {
	case "ra":
		s += ", from router" + from
	case "dns":
		s += ", from DNS server" + from
	case "static":
		s += ", from the configuration"
	default:
		s += ", from " + p.Source + from
	}
	if p.Expires != nil {
		if left := p.Expires.Sub(now); left > 0 {
			s += ", valid for " + ago(left)
		} else {
			s += ", expired"
		}
	}
	if p.Remembered {
		s += ", remembered from before the restart or reload"
	}
	if p.Doubted {
		s += "; its NAT64 does not answer"
	}
	return s
}

func ignoredWords(i control.Ignored, now time.Time) string {
	var s string
	if i.Prefix != nil {
		s = i.Prefix.String() + " "
	}
	if i.From != nil {
		s += "from " + i.From.String() + " "
	}
	return fmt.Sprintf("%s(%s, last %s ago): %s", s, count(i.Count, "time"), ago(now.Sub(i.Last)), either(i.Explanation, i.Reason))
}

// engineWords says which engine translates, and why not the kernel's.
func engineWords(engine, why string) string {
	if engine == "kernel" {
		return "kernel for simple packets, user space for the rest"
	}
	return "user space" + colon(why)
}

func (t *statusLines) clat(u *control.Uplink, now time.Time) {
	c := u.CLAT
	t.row("NAT64 answers", platWords(c.PLAT, translated(c.Traffic, "4to6"), now))
	t.row("IPv4 address", fmt.Sprintf("%s on %s (route metric %d)", c.IPv4, c.TUN, c.Metric))
	if c.Shared {
		t.row("IPv6 address", fmt.Sprintf("shares %s with this host (on %s)", c.IPv6, u.Name))
	} else {
		t.row("IPv6 address", fmt.Sprintf("%s on %s", c.IPv6, u.Name))
	}
	if c.NextIPv6 != nil {
		t.row("next address", c.NextIPv6.String()+", for new connections: the network is renumbered")
	}
	if c.Flows != nil {
		t.row("flows", flowsWords(c.Flows))
	}
	t.row("MTU", fmt.Sprintf("IPv4 %s, IPv6 %s", count(uint64(c.MTU4), "byte"), count(uint64(c.MTU6), "byte")))
	t.row("engine", engineWords(c.Engine, c.EngineWhy))
	how := []string{c.Steering, count(uint64(c.Queues), "queue")}
	if c.Offloads != "" {
		how = append(how, "offloads "+c.Offloads)
	}
	t.row("steering", strings.Join(how, ", "))
	t.routes(c)
	for _, n := range c.Networks {
		if n.PREF64 == "none" {
			t.row("network", n.Network.String()+": unreachable, as configured")
		} else {
			t.row("network", fmt.Sprintf("%s by %s", n.Network, n.PREF64))
		}
	}
	t.row("sent", trafficWords(c.Traffic, "4to6"))
	t.row("received", trafficWords(c.Traffic, "6to4"))
	t.drops("not translated", c.Drops)
	if c.Errors != (control.ICMPErrors{}) {
		e := c.Errors
		s := fmt.Sprintf("%s sent to the senders", number(e.Sent))
		if e.Limited > 0 {
			sides := ""
			if e.IPv4.Limited+e.IPv6.Limited > 0 { // earlier daemons do not count them apart
				sides = fmt.Sprintf("%s to local programs, %s to the network; ", number(e.IPv4.Limited), number(e.IPv6.Limited))
			}
			s += fmt.Sprintf(", %s suppressed (%slimit translation.icmp-errors-per-second)", number(e.Limited), sides)
		}
		t.row("ICMP errors", s)
	}
	if c.IO != (control.IOErrors{}) {
		t.row("lost", fmt.Sprintf("%s not read from the TUN, %s not written to it", count(c.IO.Read, "packet"), number(c.IO.Write)))
	}
	if len(c.Decline) > 0 {
		t.row("slow path", "translated in user space (not dropped), by reason:")
		t.drops("", c.Decline)
	}
}

// flowsWords says how many flows of both sides share an address.
func flowsWords(f *control.Flows) string {
	clat, host, other := 0, 0, 0
	var evicted []string
	for _, t := range f.Tables {
		if t.Table == "host" {
			host += t.Flows
		} else {
			clat += t.Flows
		}
		other += t.OtherPort
		if t.Evicted > 0 {
			evicted = append(evicted, number(t.Evicted)+" "+t.Table)
		}
	}
	s := fmt.Sprintf("%s of the CLAT, %s of this host, %s with another port on the wire", number(uint64(clat)), number(uint64(host)), number(uint64(other)))
	if evicted != nil {
		s += "; evicted from full tables: " + strings.Join(evicted, ", ")
	}
	if f.Recovered > 0 {
		s += fmt.Sprintf("; %s recovered from their sockets", number(f.Recovered))
	}
	return s
}

// platWords says whether the PLAT answers; sent is how many packets were sent to it.
func platWords(p control.PLAT, sent uint64, now time.Time) string {
	switch p.State {
	case control.PLATAnswering:
		return fmt.Sprintf("yes, for %s%s", ago(now.Sub(p.Since)), colon(p.Why))
	case control.PLATSilent:
		return fmt.Sprintf("no, for %s%s", ago(now.Sub(p.Since)), colon(either(p.Why, "packets are sent and no answers arrive")))
	case control.PLATUnknown:
		why := "no packet has been sent yet"
		if sent > 0 {
			why = "not judged yet"
		}
		return "unknown" + colon(either(p.Why, why))
	}
	return string(p.State)
}

// translated returns how many packets were translated in a direction.
func translated(all []control.Traffic, direction string) (packets uint64) {
	for _, n := range all {
		if n.Direction == direction {
			packets += n.Packets
		}
	}
	return packets
}

// trafficWords sums the counters of one direction over engines, by protocol.
func trafficWords(all []control.Traffic, direction string) string {
	var packets, bytes, kernel uint64
	type protocol struct {
		name    string
		packets uint64
	}
	var by []protocol
	for _, n := range all {
		if n.Direction != direction || n.Packets == 0 {
			continue
		}
		packets += n.Packets
		bytes += n.Bytes
		if n.Engine == "kernel" {
			kernel += n.Packets
		}
		i := slices.IndexFunc(by, func(p protocol) bool { return p.name == n.Protocol })
		if i < 0 {
			i, by = len(by), append(by, protocol{name: n.Protocol})
		}
		by[i].packets += n.Packets
	}
	if packets == 0 {
		return "none"
	}
	slices.SortStableFunc(by, func(a, b protocol) int { return cmp.Compare(b.packets, a.packets) })
	var parts []string
	for _, p := range by {
		parts = append(parts, number(p.packets)+" "+p.name)
	}
	s := fmt.Sprintf("%s, %s (%s)", count(packets, "packet"), size(bytes), strings.Join(parts, ", "))
	if kernel > 0 {
		s += fmt.Sprintf(", %d %% in the kernel", uint64(float64(kernel)/float64(packets)*100))
	}
	return s
}

func (t *statusLines) drops(label string, all []control.Dropped) {
	width := 0
	for _, d := range all {
		width = max(width, len(number(d.Packets)))
	}
	var texts []string
	for _, d := range all {
		texts = append(texts, fmt.Sprintf("%*s  %s%s", width, number(d.Packets), d.Reason, colon(d.Explanation)))
	}
	t.row(label, texts...)
}

func (t *statusLines) daemon(s control.Status, now time.Time) {
	t.line("tnat64d %s: running for %s", s.Version, ago(now.Sub(s.Started)))
	t.row("configuration", either(s.Config, "none (defaults)"))
	t.row("clat.enable", s.Enable)
	for _, f := range s.Features {
		if f.Available {
			t.row(f.Name, "available"+colon(f.Why))
		} else {
			t.row(f.Name, "absent"+colon(f.Why))
		}
	}
}
