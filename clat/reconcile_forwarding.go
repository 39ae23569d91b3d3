package clat

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// ForwardingRefused is the error of a host where packets can be neither
// steered nor forwarded.
type ForwardingRefused struct {
	Why string // steering is refused
	Err error
}

func (e *ForwardingRefused) Error() string {
	return fmt.Sprintf("%s; and the kernel cannot be made to forward: %v", e.Why, e.Err)
}

func (e *ForwardingRefused) Unwrap() error { return e.Err }

// errNoJournal keeps the promise to leave nothing behind after a SIGKILL.
var errNoJournal = errors.New("without a journal changed sysctls could not be restored after a crash")

// bringUpForwarding takes the place of bringUpSteering.
func (c *running) bringUpForwarding(o Observed, want *CLAT) error {
	first := !c.forwards
	c.forwards = true
	if err := c.bringUpSettings(o, want, first); err != nil {
		return &ForwardingRefused{want.Forwarding.Why, err}
	}
	var diversions []Diversion
	for i, p := range want.Ours() {
		d := Diversion{Prefix: p.Masked(), TUN: c.tun.Index(), Source: want.Forwarding.Source}
		if i == 0 {
			d.Uplink = c.uplink.Index
		}
		diversions = append(diversions, d)
	}
	for _, d := range diversions {
		at := slices.IndexFunc(c.diverted, d.samePrefix)
		ours := at >= 0 && c.diverted[at] == d
		if ours && (slices.Contains(o.Forwarding.Diverted, d) || !c.allow(fmt.Sprintf("way of %s into %s", d.Prefix, want.TUN))) {
			continue
		}
		if at < 0 {
			c.diverted = append(c.diverted, d)
		} else {
			c.diverted[at] = d
		}
		if err := c.rec.host.Divert(d); err != nil {
			return fmt.Errorf("divert packets for %s into %s: %w", d.Prefix, want.TUN, err)
		}
	}
	if err := c.undivert(func(d Diversion) bool { return !slices.ContainsFunc(diversions, d.samePrefix) }); err != nil {
		return err
	}
	if err := c.bringUpWay(o, want); err != nil {
		return err
	}
	c.sayForwarding(want)
	return c.checkLead(o, want)
}

func (d Diversion) samePrefix(e Diversion) bool { return d.Prefix == e.Prefix }

func (c *running) bringUpSettings(o Observed, want *CLAT, first bool) error {
	if c.rec.journal == nil {
		return errNoJournal
	}
	var wanted []Sysctl
	for _, s := range want.Forwarding.Settings {
		wanted = append(wanted, s.Sysctl)
		if err := c.bringUpSetting(o, s, s.Link == want.TUN, first); err != nil {
			return err
		}
	}
	return c.rec.restore(func(c Change) bool { return !slices.Contains(wanted, c.Sysctl) })
}

// bringUpSetting changes one sysctl. Those of the TUN go with it and need no
// journal.
func (c *running) bringUpSetting(o Observed, s Setting, ofTUN, first bool) error {
	now, known := o.Forwarding.Sysctls[s.Sysctl]
	done := known && now == s.Is
	ours := ofTUN && !first
	if !ofTUN {
		_, ours = Memory{Changes: c.rec.journal.Changes()}.change(s.Sysctl)
		if !ours {
			if err := c.rec.journal.Set(s.Change); err != nil {
				return err
			}
		}
	}
	if done || s.Implied || ours && known && !c.allow("sysctl "+s.String()) {
		return nil
	}
	err := c.rec.host.SetSysctl(s.Sysctl, s.Is)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its link is gone
	}
	return err
}

// restore puts back the sysctls that which selects.
func (r *Reconciler) restore(which func(Change) bool) error {
	if r.journal == nil {
		return nil
	}
	restored, err := restoreChanges(r.host, r.journal, which)
	for _, c := range restored {
		r.log.Info("restored", "sysctl", c.Sysctl, "value", c.Was)
	}
	return err
}

// restoreChanges puts back, the last first, the sysctls of the journal that
// which selects, unless another program has changed them meanwhile. What fails
// stays in the journal.
func restoreChanges(f Forwarder, j *Journal, which func(Change) bool) (restored []Change, err error) {
	var errs []error
	for _, c := range slices.Backward(j.Changes()) {
		if !which(c) {
			continue
		}
		now, err := f.Sysctl(c.Sysctl)
		if err == nil && now == c.Is {
			if err = f.SetSysctl(c.Sysctl, c.Was); err == nil {
				restored = append(restored, c)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("restore %s: %w", c.Sysctl, err))
			continue
		}
		errs = append(errs, j.Unset(c.Sysctl))
	}
	return restored, errors.Join(errs...)
}

func (c *running) undivert(which func(Diversion) bool) error {
	var errs []error
	c.diverted = slices.DeleteFunc(c.diverted, func(d Diversion) bool {
		if !which(d) {
			return false
		}
		if err := c.rec.host.Undivert(d); err != nil {
			errs = append(errs, fmt.Errorf("stop diverting packets for %s: %w", d.Prefix, err))
			return false
		}
		return true
	})
	return errors.Join(errs...)
}

// bringUpWay keeps what the translator writes on the uplink where the host's
// routes lead elsewhere.
func (c *running) bringUpWay(o Observed, want *CLAT) error {
	way, old := want.Forwarding.Way, c.way
	if way == (Route{}) {
		return c.wayDown()
	}
	c.way = way
	if way != old || !slices.Contains(o.Routes, way) && c.allow("IPv6 route of "+want.TUN) {
		if err := c.rec.host.AddRoute(way); err != nil {
			return fmt.Errorf("add IPv6 default route for %s: %w", want.TUN, err)
		}
	}
	if old == (Route{}) || !o.Forwarding.Rule && c.allow("IPv6 rule of "+want.TUN) {
		if err := c.rec.host.AddRule(want.TUN); err != nil {
			return fmt.Errorf("add IPv6 rule for %s: %w", want.TUN, err)
		}
	}
	return nil
}

func (c *running) wayDown() error {
	if c.way == (Route{}) {
		return nil
	}
	err := errors.Join(c.rec.host.DelRule(c.tunName), c.rec.host.DelRoute(c.way))
	c.way = Route{}
	return err
}

// sayForwarding names everything that differs from a host with steering, and
// once why.
func (c *running) sayForwarding(want *CLAT) {
	var changed []string
	for _, s := range want.Forwarding.Settings {
		if !s.Implied {
			changed = append(changed, s.String())
		}
	}
	for _, d := range c.diverted {
		changed = append(changed, fmt.Sprintf("route %s to %s", d.Prefix, want.TUN))
		if d.Uplink != 0 {
			changed = append(changed, fmt.Sprintf("no local route for %[1]s, proxy neighbour %[1]s on %[2]s", d.Prefix.Addr(), c.uplink.Name))
		}
	}
	if c.way != (Route{}) {
		changed = append(changed, fmt.Sprintf("rule for %s to table %d, default route by %s there", want.TUN, TableForwarding, c.uplink.Name))
	}
	text := strings.Join(changed, "; ")
	if text == c.said {
		return
	}
	c.said = text
	if c.rec.saidForwarding {
		c.rec.log.Info("kernel forwarding again", "iface", c.uplink.Name, "changed", text, "restored", "at stop")
		return
	}
	c.rec.saidForwarding = true
	c.rec.log.Warn("BPF is refused: falling back to kernel forwarding", "iface", c.uplink.Name, "reason", want.Forwarding.Why,
		"changed", text, "restored", "at stop",
		"consequences", "the FORWARD chain of this host's IPv6 firewall may block the packets; one hop more in traceroute; only a routing rule keeps untranslated IPv4 of the CLAT from leaving by other interfaces")
}

// checkLead warns if the host's routes send what the translator writes
// elsewhere than to the uplink. Steering would not care.
func (c *running) checkLead(o Observed, want *CLAT) error {
	link, err := c.rec.host.Leads(c.tun.Index(), want.IPv6, want.PREF64.Prefix.Addr().Next())
	if err != nil {
		c.rec.log.Debug("no way to the PLAT", "iface", c.uplink.Name, "reason", err)
		return nil
	}
	if link != c.uplink.Index && link != c.lead {
		c.rec.log.Warn("the host's IPv6 routes lead to the PLAT by another link; kernel forwarding follows them", "iface", c.uplink.Name, "link", o.linkName(link))
	}
	c.lead = link
	return nil
}

// forwardingDown takes back what bringUpForwarding did, except that the CLAT
// address is not delivered locally again: it must go as well.
func (c *running) forwardingDown() error {
	if !c.forwards {
		return nil
	}
	c.forwards, c.said, c.lead = false, "", 0
	return errors.Join(
		c.rec.restore(func(Change) bool { return true }),
		c.wayDown(),
		c.undivert(func(Diversion) bool { return true }),
	)
}
