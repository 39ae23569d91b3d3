package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tnat64d/internal/lab"
)

const (
	downloadSize = 1 << 30
	stepTimeout  = 30 * time.Second // of each program on the laptop
	buildTimeout = 20 * time.Second // of the lab
	startTimeout = 15 * time.Second // of tnat64d
)

// story is a demo being told.
type story struct {
	invocation
	*lab.Lab
	out    printer
	log    lab.Tail
	before lab.Snapshot
	sysctl lab.Snapshot
	watch  *lab.Watch
	daemon *lab.Daemon
	clat   lab.CLAT
}

// demo tells the story. Whatever happens, nothing is left behind.
func demo(ctx context.Context, inv invocation, out io.Writer) (err error) {
	s := &story{invocation: inv, out: printer{out}}
	if s.Lab, err = newLab(ctx, inv.options); err != nil {
		return err
	}
	defer func() { takeDown(s.Lab, s.daemon, &err) }()

	chapters := []func(context.Context) error{s.introduce, s.withoutCLAT, s.start}
	if inv.options.NativeIPv4 {
		chapters = append(chapters, s.standsAside)
	} else {
		chapters = append(chapters, s.comesUp, s.web, s.ping, s.traceroute, s.download, s.translated)
	}
	chapters = append(chapters, s.end)
	for _, tell := range chapters {
		if err := tell(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			return explain(err, s.log.String())
		}
	}
	return nil
}

// newLab builds the lab.
func newLab(ctx context.Context, o lab.Options) (*lab.Lab, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	return lab.New(ctx, o)
}

// explain adds the last lines of tnat64d's log to a failure.
func explain(err error, log string) error {
	if log == "" {
		return err
	}
	return fmt.Errorf("%w\nlast lines of tnat64d's log:\n%s", err, strings.TrimRight(log, "\n"))
}

// printer prints the demo line by line.
type printer struct{ w io.Writer }

func (p printer) say(format string, args ...any) error {
	_, err := fmt.Fprintf(p.w, format+"\n", args...)
	return err
}

// line prints a step and its result side by side.
func (p printer) line(what, result string) error { return p.say("  %-29s %s", what, result) }

// tell runs a program on the laptop and prints what part makes of its output.
func (s *story) tell(ctx context.Context, p program, part func(output string) (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	output, err := p.on(ctx, s.Laptop)
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(output))
	}
	result, err := part(output)
	if err != nil {
		return fmt.Errorf("%s: %w", p.shown, err)
	}
	return s.out.line(p.shown, result)
}

// containing returns the line of a program's output that has the given words.
func containing(words string) func(string) (string, error) {
	return func(output string) (string, error) {
		if line, ok := firstLine(output, words); ok {
			return line, nil
		}
		return "", fmt.Errorf("%q is missing in what it says: %s", words, strings.TrimSpace(output))
	}
}

func (s *story) introduce(context.Context) error {
	addr, err := s.LaptopAddress()
	if err != nil {
		return err
	}
	family := "IPv6-only"
	if s.options.NativeIPv4 {
		family = "dual-stack"
	}
	if s.before, err = s.Laptop.Snapshot(); err != nil {
		return err
	}
	if s.sysctl, err = s.Laptop.Sysctls(); err != nil {
		return err
	}
	if s.watch, err = s.Laptop.Watch(lab.Uplink); err != nil {
		return err
	}
	return s.out.say("laptop (%s, %s) - router (NAT64 prefix %s) - isp - server (IPv4-only, %s)",
		family, addr, s.PREF64(), lab.ServerIPv4)
}

// url is what the demo gets, by IPv4 literal.
func url(path string) string { return "http://" + lab.ServerIPv4.String() + path }

func (s *story) withoutCLAT(ctx context.Context) error {
	if err := s.out.say("without tnat64d, on the laptop:"); err != nil {
		return err
	}
	p, err := s.find("curl "+url("/"), []string{"curl", "-sSv", url("/")}, "get", url("/"))
	if err != nil {
		return err
	}
	if s.options.NativeIPv4 {
		return s.tell(ctx, p, containing(lab.Greeting))
	}
	output, err := p.on(ctx, s.Laptop)
	if err == nil {
		return fmt.Errorf("%s succeeded although the laptop has no IPv4", p.shown)
	}
	// curl writes the name of the error with a capital, Go without.
	result, ok := firstLine(output, "etwork is unreachable")
	if !ok {
		return fmt.Errorf("%w, but not because the network is unreachable: %s", err, strings.TrimSpace(output))
	}
	return s.out.line(p.shown, result)
}

func (s *story) start(ctx context.Context) (err error) {
	if err := s.out.say("with tnat64d:"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.daemon, err = s.StartDaemon(ctx, s.tnat64d, "[clat]\n"+s.invocation.options.Kind.Config(), &s.log)
	return err
}

func (s *story) comesUp(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if s.clat, err = s.WaitCLAT(ctx); err != nil {
		return err
	}
	return s.out.line("tnat64d", fmt.Sprintf("IPv4 goes through interface %s as %s, and over %s as %s", s.clat.TUN, s.clat.IPv4, lab.Uplink, s.clat.IPv6))
}

// standsAside is what tnat64d does where there is native IPv4.
func (s *story) standsAside(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.daemon.Exited():
		return errors.New("tnat64d ended by itself")
	case <-time.After(3 * time.Second):
	}
	found, err := s.FindCLAT()
	if err != nil {
		return err
	}
	if found.TUN != "" {
		return fmt.Errorf("tnat64d took the IPv4 default route to %s although there is native IPv4", found.TUN)
	}
	if err := s.out.line("tnat64d", "stands by: the laptop keeps its native IPv4"); err != nil {
		return err
	}
	return s.web(ctx)
}

func (s *story) web(ctx context.Context) error {
	p, err := s.find("curl "+url("/"), []string{"curl", "-sS", url("/")}, "get", url("/"))
	if err != nil {
		return err
	}
	return s.tell(ctx, p, containing(lab.Greeting))
}

func (s *story) ping(ctx context.Context) error {
	p, err := s.find("ping "+lab.ServerIPv4.String(), []string{"ping", "-c", "3", "-i", "0.2", "-w", "30", lab.ServerIPv4.String()}, "ping", lab.ServerIPv4.String())
	if err != nil {
		return err
	}
	return s.tell(ctx, p, containing(", 3 received"))
}

func (s *story) traceroute(ctx context.Context) error {
	p, err := s.find("traceroute "+lab.ServerIPv4.String(), []string{"traceroute", "-n", "-q", "1", "-w", "5", lab.ServerIPv4.String()}, "traceroute", lab.ServerIPv4.String())
	if err != nil {
		return err
	}
	return s.tell(ctx, p, hops)
}

// landmarks are the hops that need a word.
var landmarks = map[string]string{
	"192.0.0.8":             " (a router without IPv4)", // RFC 7600, as a CLAT writes it
	lab.PLATIPv4.String():   " (the NAT64)",
	lab.ServerIPv4.String(): " (the server)",
}

// hops makes one line of what traceroute prints.
func hops(output string) (string, error) {
	var path []string
	last := ""
	for line := range strings.Lines(output) {
		if f := strings.Fields(line); len(f) > 1 && f[0] != "traceroute" {
			last = f[1]
			path = append(path, last+landmarks[last])
		}
	}
	if last != lab.ServerIPv4.String() {
		return "", fmt.Errorf("it did not reach the server: %s", strings.TrimSpace(output))
	}
	return strings.Join(path, ", "), nil
}

func (s *story) download(ctx context.Context) error {
	from := url(fmt.Sprintf("/bytes/%d", downloadSize))
	p, err := s.find("curl .../bytes/"+strconv.Itoa(downloadSize), []string{"curl", "-sS", "-o", "/dev/null", "-w", `%{size_download} %{time_total}\n`, from}, "download", from)
	if err != nil {
		return err
	}
	return s.tell(ctx, p, speed)
}

// translated shows one packet on both sides of the CLAT, and how many there were.
func (s *story) translated(ctx context.Context) error {
	m, err := s.daemon.Metrics(ctx)
	if err != nil {
		return err
	}
	count := func(direction, engine string) (all float64) {
		for name, n := range m { // one for each protocol
			if strings.HasPrefix(name, fmt.Sprintf("tnat64_packets_translated_total{direction=%q,engine=%q,", direction, engine)) {
				all += n
			}
		}
		return all
	}
	sent, err := s.onTheWire(ctx)
	if err != nil {
		return err
	}
	return errors.Join(
		s.out.line(fmt.Sprintf("%s -> %s", s.clat.IPv4, lab.ServerIPv4), fmt.Sprintf("left %s as %s", lab.Uplink, sent)),
		s.out.line("translated", fmt.Sprintf("%.0f packets out and %.0f back in the kernel, %.0f and %.0f in user space; up to 64 KiB each",
			count("4to6", "kernel"), count("6to4", "kernel"), count("4to6", "user"), count("6to4", "user"))),
	)
}

// onTheWire returns a packet that left the laptop for the NAT64. A watch keeps the
// first packet of each source: where the CLAT shares the host's address, that may be
// one of the host's own, and it looks again.
func (s *story) onTheWire(ctx context.Context) (lab.Sent, error) {
	p, err := s.find("", []string{"curl", "-sS", url("/")}, "get", url("/"))
	if err != nil {
		return lab.Sent{}, err
	}
	watch := s.watch
	for range 5 {
		for _, sent := range watch.Sent() {
			if s.PREF64().Contains(sent.Destination) {
				return sent, nil
			}
		}
		if watch, err = s.Laptop.Watch(lab.Uplink); err != nil {
			return lab.Sent{}, err
		}
		defer watch.Close()
		if output, err := p.on(ctx, s.Laptop); err != nil {
			return lab.Sent{}, fmt.Errorf("%w: %s", err, strings.TrimSpace(output))
		}
	}
	return lab.Sent{}, fmt.Errorf("no packet to %s left %s", s.PREF64(), lab.Uplink)
}

// end stops tnat64d and compares.
func (s *story) end(context.Context) error {
	sent, err := s.watch.Close()
	if err != nil {
		return err
	}
	if !s.options.NativeIPv4 {
		if err := onlyOwn(sent, lab.LaptopLink); err != nil {
			return err
		}
	}
	if err := s.daemon.Stop(); err != nil {
		return fmt.Errorf("tnat64d did not stop cleanly: %w", err)
	}
	after, err := s.Laptop.Snapshot()
	if err != nil {
		return err
	}
	sysctl, err := s.Laptop.Sysctls()
	if err != nil {
		return err
	}
	if diff := append(s.before.Diff(after), s.sysctl.Diff(sysctl)...); len(diff) > 0 {
		return fmt.Errorf("tnat64d left the laptop changed:\n%s", strings.Join(diff, "\n"))
	}
	return s.out.say("after tnat64d has stopped: the laptop's interfaces, addresses, routes and sysctls are as they were")
}

// onlyOwn checks that what left the laptop was IPv6 and from itself.
func onlyOwn(sent []lab.Sent, link netip.Prefix) error {
	for _, p := range sent {
		own := link.Contains(p.Source) || p.Source.IsLinkLocalUnicast() || p.Source == netip.IPv6Unspecified()
		if p.Source.Is4() || !own {
			return fmt.Errorf("a packet left %s that should not have: %s", lab.Uplink, p)
		}
	}
	return nil
}
