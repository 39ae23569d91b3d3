package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tnat64d/internal/control"
)

// Result says what a finding means for IPv4 on this host.
type Result string

const (
	OK      Result = "ok"
	Warning Result = "warning" // works, or may work
	Problem Result = "problem"
	Skipped Result = "skipped" // not tested, or not known
)

// Line is one finding in words.
type Line struct {
	Check  string `json:"check"` // one word for programs, for example "dns64"
	Result Result `json:"result"`
	Text   string `json:"text"`
}

// checks are in the order in which one depends on another.
var checks = []func(f Findings) []Line{
	single(kernelLine),
	single(uplinkLine),
	ofUplink(single(addressLine)),
	ofUplink(single(routerLine)),
	ofUplink(single(raLine)),
	ofUplink(dnsLines),
	ofUplink(agreementLines),
	ofUplink(systemLines),
	single(nativeLine),
	ofUplink(single(dhcpLine)),
	ofUplink(otherLines),
	single(daemonLine),
	ofUplink(pathLines),
	ofUplink(single(sizeLine)),
	ofUplink(single(freshLine)),
}

func single(check func(f Findings) Line) func(f Findings) []Line {
	return func(f Findings) []Line { return []Line{check(f)} }
}

// ofUplink leaves out a check where there is no uplink.
func ofUplink(check func(f Findings) []Line) func(f Findings) []Line {
	return func(f Findings) []Line {
		if f.Uplink.Name == "" {
			return nil
		}
		return check(f)
	}
}

// Lines describes the findings, at least one line for each check.
func Lines(f Findings) (lines []Line) {
	for _, check := range checks {
		lines = append(lines, check(f)...)
	}
	return lines
}

func kernelLine(f Findings) Line {
	h := f.Host
	l := Line{Check: "kernel", Result: OK}
	switch {
	case h.TUN != "":
		l.Result, l.Text = Problem, fmt.Sprintf("Linux %s; %s", h.Kernel, h.TUN)
	case slices.Contains(h.Missing, "CAP_NET_ADMIN"):
		l.Result, l.Text = Problem, fmt.Sprintf("Linux %s; no process here can have %s", h.Kernel, strings.Join(h.Missing, " or "))
	case h.Old:
		l.Result, l.Text = Warning, fmt.Sprintf("Linux %s is older than %s, the oldest that tnat64d supports", h.Kernel, kernelFloor)
	case h.BPF != "":
		l.Result, l.Text = Warning, fmt.Sprintf("Linux %s; BPF programs cannot be loaded (%s): user space translates every packet, which is slower", h.Kernel, h.BPF)
	case len(h.Missing) > 0:
		l.Result, l.Text = Warning, fmt.Sprintf("Linux %s; no process here can have %s", h.Kernel, strings.Join(h.Missing, " or "))
	default:
		hook := "clsact"
		if h.TCX {
			hook = "tcx"
		}
		bpf := "BPF with " + hook
		if !h.BPFKnown {
			bpf += " (not tested, needs root)"
		}
		l.Text = fmt.Sprintf("Linux %s, TUN, %s", h.Kernel, bpf)
	}
	return l
}

func otherLines(f Findings) []Line {
	var lines []Line
	for _, o := range f.Others {
		lines = append(lines, Line{"other-clat", Warning, fmt.Sprintf("%s: %s", o.Name, o.Evidence)})
	}
	if len(lines) == 0 {
		lines = append(lines, Line{"other-clat", OK, "none"})
	}
	return lines
}

func daemonLine(f Findings) Line {
	d := f.Daemon
	l := Line{Check: "tnat64d", Result: Warning}
	switch {
	case !d.Running:
		l.Text = "is not running"
		if f.IPv4.Native != "" || len(f.Others) > 0 && f.Others[0].Alive {
			l.Result = OK
		}
	case d.translates(f.Uplink.Name) && d.Status == nil:
		l.Result, l.Text = OK, fmt.Sprintf("has the interface %s for %s; its status cannot be read: %s", d.Interfaces[f.Uplink.Name], f.Uplink.Name, d.Error)
	case d.Status == nil:
		l.Text = "runs, but its status cannot be read: " + d.Error
	default:
		u, ok := d.uplink(f.Uplink.Name)
		switch {
		case !ok && d.Status.Why != "":
			l.Text = "runs without an uplink: " + d.Status.Why
		case !ok:
			l.Text = "runs, but not on " + f.Uplink.Name
		default:
			l.Text = fmt.Sprintf("%s on %s: %s", u.State, u.Name, u.Why)
			switch u.State {
			case control.Up, control.Moving, control.Standby:
				l.Result = OK
			case control.Failed:
				l.Result = Problem
			}
			if u.CLAT != nil && u.CLAT.PLAT.State == control.PLATSilent {
				l.Result, l.Text = Problem, l.Text+"; the NAT64 does not answer"
			}
		}
	}
	return l
}

func pathLines(f Findings) []Line {
	if f.NoTarget != "" {
		return []Line{{"path", Warning, "not tested: " + f.NoTarget}}
	}
	if f.Target == nil {
		return []Line{{"path", Skipped, "not tested: -target HOST:PORT names an IPv4 host to reach"}}
	}
	var lines []Line
	for _, p := range f.Paths {
		how := "over plain IPv4"
		if !p.plain() {
			how = fmt.Sprintf("through %s (%s)", p.PREF64, synthesize(p.PREF64, f.Target.Address))
		}
		l := Line{Check: "path"}
		switch {
		case !p.tested():
			l.Result = Skipped
		case !p.answers():
			l.Result = Problem
		case p.Echo.failed() || p.TCP.failed():
			l.Result = Warning
		default:
			l.Result = OK
		}
		l.Text = fmt.Sprintf("%s %s: %s", f.Target.Name, how, probeText("ping", p.Echo))
		if f.Target.Port != 0 {
			l.Text += fmt.Sprintf(", %s", probeText(fmt.Sprintf("TCP port %d", f.Target.Port), p.TCP))
		}
		lines = append(lines, l)
	}
	if len(lines) == 0 {
		lines = append(lines, Line{"path", Skipped, fmt.Sprintf("no path to %s can be tested", f.Target.Name)})
	}
	return lines
}

func probeText(what string, p Probe) string {
	switch {
	case !p.Tested:
		return what + " not tested: " + p.Why
	case p.OK && p.Why != "":
		return fmt.Sprintf("%s %s in %s", what, p.Why, inWords(p.Time))
	case p.OK:
		return fmt.Sprintf("%s answers in %s", what, inWords(p.Time))
	}
	return what + " fails: " + p.Why
}

func sizeLine(f Findings) Line {
	s := f.Size
	switch {
	case !s.Tested:
		return Line{"packet-size", Skipped, "not tested: " + s.Why}
	case s.Largest == 0:
		return Line{"packet-size", Problem, fmt.Sprintf("packets of %d bytes are not answered", minMTU)}
	case s.blackHole():
		return Line{"packet-size", Problem, fmt.Sprintf("packets up to %d bytes are answered, larger ones are lost without a Packet Too Big", s.Largest)}
	case s.Largest < s.Link:
		return Line{"packet-size", OK, fmt.Sprintf("packets up to %d bytes are answered; %s refuses larger ones with a Packet Too Big", s.Largest, s.Reporter)}
	}
	return Line{"packet-size", OK, fmt.Sprintf("packets of %d bytes are answered, the largest that %s can send", s.Largest, f.Uplink.Name)}
}

func freshLine(f Findings) Line {
	r := f.Fresh
	switch {
	case !r.Tested:
		return Line{"fresh-address", Skipped, "not tested: " + r.Why}
	case r.Duplicate:
		return Line{"fresh-address", Problem, fmt.Sprintf("another device claimed the random address %s", r.Address)}
	case r.filtered():
		return Line{"fresh-address", Problem, fmt.Sprintf("%s, a second address of this host, gets no answers", r.Address)}
	}
	return Line{"fresh-address", OK, fmt.Sprintf("%s, a second address of this host, gets the same answers as the first", r.Address)}
}

// inWords returns a duration rounded for people.
func inWords(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

func joinHosts(ps []netip.Prefix) string {
	var as []netip.Addr
	for _, p := range ps {
		as = append(as, p.Addr())
	}
	return join(as)
}

func joinRouters(rs []Router) string {
	var as []netip.Addr
	for _, r := range rs {
		as = append(as, r.Address)
	}
	return join(as)
}
