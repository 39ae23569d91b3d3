package lab

import (
	"fmt"

	"tnat64d/internal/rps"
)

// KeepOrder makes the links of the lab as they are now deliver packets in the
// order in which they were sent: see [rps.OneProcessor].
func (l *Lab) KeepOrder() error {
	hosts := []*Host{l.Laptop, l.ISP, l.Server}
	l.mu.Lock()
	for _, n := range l.networks {
		hosts = append(hosts, n.Router)
	}
	hosts = append(hosts, l.guests...)
	l.mu.Unlock()
	for _, h := range hosts {
		if err := h.Do(func() error { return rps.OneProcessor(h.Netlink) }); err != nil {
			return fmt.Errorf("receive on one processor in %s: %w", h.Name, err)
		}
	}
	return nil
}
