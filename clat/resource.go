package clat

import (
	"log/slog"
	"net/netip"
	"time"

	"tnat64d/clat/plan"
)

// resource is one part of what a CLAT has on the host.
type resource interface {
	// Ensure makes the part as p wants it and restores what another program has
	// removed or changed, within the limit of its drift. [Up] means that it is
	// there; any other progress ends the pass.
	Ensure(p pass) (Progress, error)
	// Remove removes the part, and continues after a step that fails. Removing
	// what does not exist is not an error.
	Remove() error
}

// pass is what the resources of one CLAT are told when they are ensured.
type pass struct {
	o plan.Observed
	// want is the CLAT in force. Its IPv6 address is the one that serves, which is
	// an older one than next while next is in DAD.
	want        *plan.CLAT
	next        netip.Addr
	sourceRules plan.SourceRules
}

// tools are what all resources work with.
type tools struct {
	host    Host
	log     *slog.Logger
	journal *addressRecord
	wake    *wakeup
	flows   *flows
	left    LeftAddrs

	detections *detections
}

// wakeup is when to reconcile again although nothing has changed.
type wakeup struct{ after time.Duration } // 0: no need to

// in asks to reconcile again after d, unless an earlier time is asked for.
func (w *wakeup) in(d time.Duration) {
	if w.after == 0 || d < w.after {
		w.after = max(d, time.Millisecond)
	}
}

// addressRecord keeps the CLAT IPv6 addresses in the journal, if there is one.
type addressRecord struct {
	journal *Journal // may be nil
	log     *slog.Logger
}

// add records that an address is about to be added to a link.
func (r *addressRecord) add(link string, a netip.Addr) {
	if r.journal != nil {
		r.warn(r.journal.Add(link, a))
	}
}

// del records that an address has been removed.
func (r *addressRecord) del(link string, a netip.Addr) {
	if r.journal != nil {
		r.warn(r.journal.Del(link, a))
	}
}

func (r *addressRecord) warn(err error) {
	if err != nil {
		r.log.Warn("cannot write the journal; after a crash the CLAT address may stay on the uplink", "reason", err)
	}
}

// flows ends the connections that a change of mapping breaks.
type flows struct {
	host Host
	log  *slog.Logger
	// warned that the kernel cannot
	warned bool
}

// abort ends those connections from a, an address of the CLAT on iface, that
// which selects; nil selects all.
func (f *flows) abort(a netip.Addr, which func(plan.Connection) bool, iface string) {
	n, err := f.host.AbortFlows(a, which)
	switch {
	case err != nil && !f.warned:
		f.warned = true
		f.log.Warn("cannot abort connections that a network change breaks; they end when they time out", "reason", err)
	case err != nil:
		f.log.Debug("cannot abort connections", "iface", iface, "reason", err)
	}
	if n > 0 {
		f.log.Info("aborted connections that cannot survive the change", "iface", iface, "connections", n)
	}
}
