package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
	"tnat64d/internal/soak"
)

// TestChaos does to the laptop what careless programs and people do, at random
// moments and of several kinds at a time. Afterwards the laptop is either right
// or clean, never half. The sequence is the same in each run; TNAT64_SEED gives
// another one (`make soak` does), and where TNAT64_LONG is set it takes minutes.
func TestChaos(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		seed := soak.Seed(t)
		duration := 8 * time.Second
		if os.Getenv("TNAT64_LONG") != "" {
			duration = 3 * time.Minute
		}
		t.Logf("TNAT64_SEED=%d", seed)
		w := newWorld(t, lab.Options{}, config)
		w.moved = true
		w.page(t)
		c := &chaos{world: w, t: t, random: rand.New(rand.NewPCG(seed, 0)), announced: w.Advert()}
		c.right = c.shape()
		c.rage(duration)
	})
}

// chaos is a world in which things go wrong.
type chaos struct {
	*world
	t         *testing.T
	random    *rand.Rand
	announced lab.Advert
	right     lab.Snapshot // how the laptop looks with a CLAT
	slowest   time.Duration
}

// mischief is one thing that goes wrong.
type mischief struct {
	name string
	do   func() error
	// broken: what the mischief takes away from the laptop besides what is ours,
	// nobody but a network manager gives back.
	broken bool
}

func (c *chaos) mischiefs() []mischief {
	ip := func(args ...string) func() error {
		return func() error {
			// What is to be removed may not be there.
			out, err := c.try(c.t, "ip", args...)
			if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}
	}
	all := []mischief{
		{name: "kill -9", do: c.kill},
		{name: "ip link del clat0", do: ip("link", "del", "clat0")},
		{name: "ip link set clat0 down", do: ip("link", "set", "clat0", "down")},
		{name: "ip addr flush dev clat0", do: ip("-4", "addr", "flush", "dev", "clat0")},
		{name: "remove the CLAT address", do: ip("addr", "del", c.clat.IPv6.String()+"/128", "dev", lab.Uplink)},
		{name: "ip addr flush dev wlan0", do: ip("addr", "flush", "dev", lab.Uplink), broken: true},
		{name: "ip route flush table main", do: ip("-4", "route", "flush", "table", "main")},
		{name: "ip -6 route flush table main", do: ip("-6", "route", "flush", "table", "main"), broken: true},
		{name: "ip route flush table all", do: func() error {
			if err := ip("-4", "route", "flush", "table", "all")(); err != nil {
				return err
			}
			return c.repairLoopback() // without that no program is well
		}},
		{name: "ip -6 route flush table all", do: ip("-6", "route", "flush", "table", "all"), broken: true},
		{name: "link down and up", do: func() error {
			if err := ip("link", "set", lab.Uplink, "down")(); err != nil {
				return err
			}
			c.pause(300 * time.Millisecond)
			return ip("link", "set", lab.Uplink, "up")()
		}},
		{name: "MTU", do: ip("link", "set", lab.Uplink, "mtu", []string{"1280", "1400", "1500"}[c.random.IntN(3)])},
		{name: "PREF64 withdrawn", do: c.WithdrawPREF64},
		{name: "restart", do: func() error {
			if err := c.daemon.Stop(); err != nil {
				return err
			}
			c.noCLAT("stopped")
			c.onlyLeft("stopped", nil)
			c.start(built(c.t, "tnat64d"), false)
			return nil
		}},
		{name: "SIGHUP", do: func() error { return c.hup() }},
	}
	if _, err := exec.LookPath("nft"); err == nil {
		all = append(all, mischief{name: "nft flush ruleset", do: func() error {
			_, err := c.try(c.t, "nft", "flush", "ruleset")
			return err
		}})
	}
	return all
}

func (c *chaos) pause(most time.Duration) {
	time.Sleep(time.Duration(c.random.Int64N(int64(most))))
}

// kill ends the daemon without warning. While there is none, its address may
// be there, and nothing that packets would go to.
func (c *chaos) kill() error {
	c.daemon.Kill()
	c.noCLAT("killed")
	c.onlyLeft("killed", regexp.MustCompile(`^(address (wlan0|label) \S+/128 |route table 255 type 2 \S+/128 |rule )`))
	c.pause(200 * time.Millisecond)
	c.start(built(c.t, "tnat64d"), false)
	return nil
}

// noCLAT finds no TUN, and no route to one.
func (c *chaos) noCLAT(when string) {
	eventually(c.t, soon, func() error { // the kernel takes down a dead process's TUN
		if _, err := c.Laptop.Netlink.LinkByName("clat0"); err == nil {
			return fmt.Errorf("%s, and there is a clat0", when)
		}
		return nil
	})
}

// onlyLeft finds nothing on the laptop that was not there before the daemon,
// but what the pattern allows.
func (c *chaos) onlyLeft(when string, allowed *regexp.Regexp) {
	for _, line := range c.before.Diff(must(c.t)(c.Laptop.Snapshot())) {
		line, more := strings.CutPrefix(line, "+ ")
		if more && !changeable.MatchString(line) && !strings.HasPrefix(line, "link wlan0 ") && (allowed == nil || !allowed.MatchString(line)) {
			c.t.Errorf("%s, and there is: %s", when, line)
		}
	}
}

// rage goes on for a time, and ends with a laptop that is right.
func (c *chaos) rage(duration time.Duration) {
	counts := map[string]int{}
	for end := time.Now().Add(duration); time.Now().Before(end) && !c.t.Failed(); {
		var names []string
		broken := false
		for range 1 + c.random.IntN(3) {
			all := c.mischiefs()
			m := all[c.random.IntN(len(all))]
			names = append(names, m.name)
			counts[m.name]++
			broken = broken || m.broken
			if err := m.do(); err != nil {
				c.t.Fatalf("%s: %v", m.name, err)
			}
			c.pause(200 * time.Millisecond)
		}
		what := strings.Join(names, "; ")
		c.settled(what)
		c.repair(broken)
		start := time.Now()
		c.recovered(what)
		took := time.Since(start)
		c.slowest = max(c.slowest, took)
		c.t.Logf("%s: right after %v", what, took.Round(time.Millisecond))
	}
	c.t.Logf("slowest %v; %v", c.slowest.Round(time.Millisecond), counts)
}

// repair does what network manager and network do sooner or later.
func (c *chaos) repair(broken bool) {
	if broken {
		c.laptop(c.t, "ip", "link", "set", lab.Uplink, "down")
		c.laptop(c.t, "ip", "link", "set", lab.Uplink, "up")
		if err := c.repairLoopback(); err != nil {
			c.t.Fatal(err)
		}
	}
	c.laptop(c.t, "ip", "link", "set", lab.Uplink, "mtu", "1500")
	if err := c.SetAdvert(c.announced); err != nil {
		c.t.Fatal(err)
	}
}

// repairLoopback brings back the kernel's own routes on lo.
func (c *chaos) repairLoopback() error {
	for _, to := range []string{"down", "up"} {
		if out, err := c.try(c.t, "ip", "link", "set", "lo", to); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// settled finds the laptop either right or clean, as soon as the daemon has had
// its time.
func (c *chaos) settled(what string) {
	c.t.Helper()
	eventually(c.t, soon, func() error {
		s, err := c.state()
		if err == nil {
			err = c.consistent(s)
		}
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", what, err, c.log.String())
		}
		return nil
	})
}

// state asks the daemon about the first uplink; Waiting if there is none.
func (c *chaos) state() (control.State, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	s, err := c.daemon.Status(ctx)
	if err != nil || len(s.Uplinks) == 0 {
		return control.Waiting, err
	}
	return s.Uplinks[0].State, nil
}

// consistent compares what the daemon says with what is there.
func (c *chaos) consistent(s control.State) error {
	clat, err := c.FindCLAT()
	if err != nil {
		return err
	}
	_, noTUN := c.Laptop.Netlink.LinkByName("clat0")
	switch {
	case s == control.Up:
		return c.works()
	case s == control.Moving, s == control.Failed:
		return fmt.Errorf("still %s", s)
	case clat.TUN != "":
		return fmt.Errorf("%s, and there is an IPv4 default route into %s", s, clat.TUN)
	case s == control.Held:
		return nil
	case noTUN == nil && s != control.Starting:
		return fmt.Errorf("%s, and there is a clat0", s)
	}
	return nil
}

// works finds that IPv4 works, once for each packet.
func (c *chaos) works() error {
	if err := answered(c.Laptop, "", 3*time.Second); err != nil {
		return err
	}
	return c.pinged(c.t)
}

// recovered finds the laptop right, after a short while: it looks as it did
// with the first CLAT.
func (c *chaos) recovered(what string) {
	c.t.Helper()
	eventually(c.t, soon, func() error { // restoring every 10 seconds is slow
		s, err := c.state()
		if err == nil && s != control.Up {
			err = fmt.Errorf("the CLAT is %s", s)
		}
		if err == nil {
			err = c.works()
		}
		if err == nil {
			if diff := c.right.Diff(c.shape()); len(diff) > 0 {
				err = fmt.Errorf("not as it was:\n%s", strings.Join(diff, "\n"))
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", what, err, c.log.String())
		}
		return nil
	})
}

// shape is a snapshot without what the kernel does by itself, and without the flag
// of the CLAT address that says who did its duplicate address detection: the daemon
// while the host's own address is in it too, otherwise the kernel.
func (c *chaos) shape() lab.Snapshot {
	s := slices.DeleteFunc(must(c.t)(c.Laptop.Snapshot()), changeable.MatchString)
	for i, line := range s {
		m := clatFlags.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		flags, err := strconv.ParseUint(m[2], 16, 32)
		if err != nil {
			c.t.Fatalf("%s: %v", line, err)
		}
		s[i] = fmt.Sprintf("%s%#x", m[1], flags&^unix.IFA_F_NODAD)
	}
	slices.Sort(s)
	return s
}

// clatFlags finds the flags of a /128 of the uplink.
var clatFlags = regexp.MustCompile(`^(address wlan0 \S+/128 .*flags )0x([0-9a-f]+)$`)

// changeable are facts that are not ours: see learned. The CLAT's local IPv4
// route is.
var changeable = regexp.MustCompile(`^(group |route .* dev wlan0 .* protocol (2|9) |route .* type 5 ff00::|route table 25[45] .* dev (wlan0|lo) |address wlan0 \S+/64 )`)

// hup makes the daemon read its configuration again.
func (w *world) hup() error { return syscall.Kill(w.daemon.PID(), syscall.SIGHUP) }

// TestDriftLimit has another program that removes our configuration whenever it
// sees it. The daemon restores it five times at once and then every ten seconds,
// and does not fill the log. When the other program has gone, IPv4 works again.
func TestDriftLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		object string // in the log
		remove func(w *world) []string
	}{
		{"IPv4 default route on clat0", func(*world) []string { return []string{"-4", "route", "del", "default", "dev", "clat0"} }},
		{"address ", func(w *world) []string {
			return []string{"addr", "del", w.clat.IPv6.String() + "/128", "dev", lab.Uplink}
		}},
		{"settings of clat0", func(w *world) []string {
			return []string{"addr", "del", w.clat.IPv4.String() + "/32", "dev", "clat0"}
		}},
	} {
		t.Run(c.object, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{}, "")
			removed := 0
			begun := time.Now()
			for more := true; more; time.Sleep(5 * time.Millisecond) {
				if _, err := w.try(t, "ip", c.remove(w)...); err == nil {
					removed++
				}
				took := time.Since(begun)
				more = took < 3*time.Second || removed < 2 && took < soon
			}
			most := 6 + int(time.Since(begun)/(10*time.Second))
			if removed < 2 || removed > most {
				t.Errorf("it was there to be removed %d times, not 2 to %d", removed, most)
			}
			w.firstAnswer(t, "", soon) // and the log has come through its pipe
			restored, limited := w.book.lines("restored", c.object), w.book.lines("keeps removing", c.object)
			if restored == 0 || restored > 5 || limited > 1 || removed > 5 && limited == 0 {
				t.Errorf("removed %d times, the log has %d lines about restoring and %d about the limit:\n%s", removed, restored, limited, w.book.String())
			}
			since := time.Now()
			took := w.firstAnswer(t, "", soon).Sub(since).Round(time.Millisecond)
			t.Logf("removed %d times; IPv4 works %v after the last", removed, took)
		})
	}
}

// TestInterfaceRemoved has another program that removes the CLAT's interface
// whenever it sees it, also one that is not ready yet, which is a step that
// fails. Attempts become rare, and the log is not filled.
func TestInterfaceRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	removed := 0
	begun := time.Now()
	for more := true; more; time.Sleep(2 * time.Millisecond) {
		took := time.Since(begun)
		more = took < 8*time.Second || removed < 2 && took < soon
		if link, err := w.Laptop.Netlink.LinkByName("clat0"); err == nil && w.Laptop.Netlink.LinkDel(link) == nil {
			removed++
		}
	}
	lines := strings.Count(w.book.String(), "\n")
	took := time.Since(begun)
	if removed < 2 || removed > 25+int(took/(2*time.Second)) || lines > 20+int(took/(2*time.Second)) {
		t.Errorf("removed %d times in %v, %d lines of log:\n%s", removed, took, lines, w.book.String())
	}
	since := time.Now()
	t.Logf("removed %d times; IPv4 works %v after the last", removed, w.firstAnswer(t, "", soon).Sub(since).Round(time.Millisecond))
}

// TestKeepsFailing takes away from the daemon what it needs to open a TUN.
// It tries again less and less often, and its address does not come and go on
// the uplink all the time.
func TestKeepsFailing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	var usual unix.Rlimit
	if err := unix.Prlimit(w.daemon.PID(), unix.RLIMIT_NOFILE, nil, &usual); err != nil {
		t.Fatal(err)
	}
	limit := func(files uint64) {
		t.Helper()
		if err := unix.Prlimit(w.daemon.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: usual.Max}, nil); err != nil {
			t.Fatal(err)
		}
	}
	failures := func() int {
		const reason = "too many open files"
		return w.book.lines("cannot observe this host", reason) + w.book.lines("the CLAT has failed", reason)
	}
	limit(8)
	w.laptop(t, "ip", "link", "del", "clat0")
	eventually(t, soon, func() error {
		if failures() == 0 {
			return errors.New("it has not failed")
		}
		return nil
	})
	time.Sleep(9 * time.Second)
	if n := w.book.lines("CLAT is starting"); n > 5 { // the first, and after 1, 2 and 4 seconds, and DAD each time
		t.Errorf("%d starts:\n%s", n, w.book.String())
	}
	if n := failures(); n == 0 || n > 5 {
		t.Errorf("%d failures:\n%s", n, w.book.String())
	}
	limit(usual.Cur)
	since := time.Now()
	w.firstAnswer(t, "", soon)
	t.Logf("IPv4 works %v after the reason has gone", time.Since(since).Round(time.Millisecond))
}
