package bus

import (
	"context"
	"fmt"

	"tnat64d/internal/control"
)

// Features returns what can be had from the bus, and why not where it cannot,
// in the order of the daemon's status. Asking connects the bus.
func (b *Bus) Features(ctx context.Context) []control.Feature {
	s, err := b.connection.connect(ctx)
	feature := func(name, service, without string) control.Feature {
		f := control.Feature{Name: name}
		switch {
		case err != nil:
			f.Why = err.Error()
		case !s.runs(service):
			f.Why = fmt.Sprintf("%s is not running: %s", programs[service], without)
		default:
			if rest := b.connection.silence.left(service); rest > 0 {
				f.Why = fmt.Sprintf("%s does not answer; asked again in %s", programs[service], rest)
			} else {
				f.Available = true
			}
		}
		return f
	}
	return []control.Feature{
		feature("dns-resolved", resolvedName, "its DNS servers of links are unknown"),
		feature("dns-networkmanager", managerName, "its DNS servers of links are unknown"),
		feature("sleep-logind", logindName, "suspend is detected by comparing clocks"),
	}
}
