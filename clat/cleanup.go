package clat

import (
	"errors"
	"fmt"
	"net/netip"

	"tnat64d/clat/plan"
)

// Leftover is an address that a predecessor could not remove.
type Leftover struct {
	Link   string
	Addr   netip.Addr
	Served bool // it has passed duplicate address detection
}

// Remains is the host as CleanUp needs it. Removing what is not there is not an
// error.
type Remains interface {
	Observe() (plan.Observed, error)
	DelCLATAddr(link int, a netip.Addr) error
	// DelSourceRules removes every rule of ours, and what it leads to.
	DelSourceRules() error
	// DelLabels removes every address label of ours.
	DelLabels() error
	// DelFormerProxy and DelFormerRoutes remove what versions left that made
	// the kernel forward: a proxy neighbour entry; IPv6 rules and routes of o.
	DelFormerProxy(link int, a netip.Addr) error
	DelFormerRoutes(o plan.Observed) error
	// RestoreSysctl undoes a change of such a version unless another program
	// has changed the value since. It reports whether it did.
	RestoreSysctl(c plan.SysctlChange) (restored bool, err error)
}

// CleanUp removes the CLAT addresses and rules that a killed predecessor left on
// the host, and restores the sysctls that a former version changed. It finds
// addresses by the journal and by [Protocol]. Call it with the journal locked:
// then they do not belong to a running daemon. TUN, routes into it and
// translators have vanished with their process.
func CleanUp(h Remains, j *Journal) ([]Leftover, []plan.SysctlChange, error) {
	var (
		restored []plan.SysctlChange
		errs     []error
	)
	if j != nil {
		var err error
		restored, err = restoreSysctls(h, j)
		errs = append(errs, err)
	}
	removed, err := cleanUpAddrs(h, j)
	return removed, restored, errors.Join(append(errs, err)...)
}

func cleanUpAddrs(h Remains, j *Journal) ([]Leftover, error) {
	o, err := h.Observe()
	if err != nil {
		return nil, err
	}
	noted := map[JournalEntry]bool{}
	if j != nil {
		for _, e := range j.Entries() {
			noted[e] = true
		}
	}
	var (
		removed []Leftover
		errs    []error
	)
	for _, a := range o.Addrs {
		e := JournalEntry{Link: o.LinkName(a.Link), Addr: a.Prefix.Addr()}
		if !a.LooksLikeCLAT() || a.Protocol != plan.Protocol && !noted[e] {
			continue
		}
		if err := errors.Join(h.DelFormerProxy(a.Link, e.Addr), h.DelCLATAddr(a.Link, e.Addr)); err != nil {
			errs = append(errs, fmt.Errorf("remove leftover address %s from %s: %w", e.Addr, e.Link, err))
			delete(noted, e)
			continue
		}
		removed = append(removed, Leftover{e.Link, e.Addr, !a.Tentative && !a.Optimistic && !a.DADFailed})
	}
	// An address that is in the journal and not on the host has vanished with
	// its link, or another program removed it and left the proxy neighbour.
	for e := range noted {
		if l, ok := o.LinkByName(e.Link); ok {
			errs = append(errs, h.DelFormerProxy(l.Index, e.Addr))
		}
		if err := j.Del(e.Link, e.Addr); err != nil {
			errs = append(errs, err)
		}
	}
	if err := h.DelLabels(); err != nil {
		errs = append(errs, fmt.Errorf("remove leftover address labels: %w", err))
	}
	if err := errors.Join(h.DelFormerRoutes(o), h.DelSourceRules()); err != nil {
		errs = append(errs, fmt.Errorf("remove leftover routes: %w", err))
	}
	return removed, errors.Join(errs...)
}
