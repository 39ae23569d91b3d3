package plat

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"tnat64d/plat/nat44"
)

// Handover keeps the tracked connections from the end of one NAT64 to the begin of the
// next: over a reload, and over a restart if the service manager keeps a descriptor. The
// zero value keeps nothing yet. Its methods may be called at any time.
type Handover struct {
	mu      sync.Mutex
	hold    *nat44.Hold  // nil: none
	inherit func() error // ends what the previous process has left; nil: nothing
}

// Inherit says that the previous process has left rules, which end ends.
func (h *Handover) Inherit(end func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inherit = end
}

// begin is called before a NAT64 with the NAT44 c ends.
func (h *Handover) begin(c nat44.Config, log *slog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hold != nil || h.inherit != nil {
		return
	}
	var err error
	if h.hold, err = nat44.NewHold(c); err != nil {
		log.Warn("connections that carry packets now may end", "reason", err)
	}
}

// end is called when a NAT64 translates.
func (h *Handover) end() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	if h.hold != nil {
		errs = append(errs, h.hold.Close())
		h.hold = nil
	}
	if h.inherit != nil {
		errs = append(errs, h.inherit())
		h.inherit = nil
	}
	return errors.Join(errs...)
}

// Close ends it when no NAT64 follows in this process. Unless keep is nil, the rules
// stay while the copy of their descriptor is open that keep makes.
func (h *Handover) Close(keep func(fd int) error) error {
	if keep == nil {
		return h.end()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hold == nil {
		return nil
	}
	hold := h.hold
	h.hold = nil
	switch err := hold.Keep(keep); {
	case err == nil:
		return hold.Leave()
	case errors.Is(err, errors.ErrUnsupported):
		return hold.Close()
	default:
		return errors.Join(fmt.Errorf("keep the connections over a restart: %w", err), hold.Close())
	}
}
