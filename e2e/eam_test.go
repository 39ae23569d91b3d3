package e2e

import (
	"fmt"
	"strings"
	"testing"

	"tnat64d/internal/lab"
)

// TestEAMOnLink has an explicit address mapping inside the uplink's own /64: the
// router finds it by neighbour discovery, so that IPv4 from the mapped address
// gets its answers.
func TestEAMOnLink(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		const v4, v6 = "192.0.2.33", "2001:db8:1::e33"
		w := newWorldOn(t, stage{
			config: config + fmt.Sprintf("[[translation.eam]]\nipv4 = %q\nipv6 = %q\n", v4, v6),
			prepare: func(l *lab.Lab) error {
				out, err := l.Laptop.Command(t.Context(), "ip", "addr", "add", v4+"/32", "dev", "lo").CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			},
		})
		eventually(t, startTimeout, func() error {
			if out, err := w.try(t, "ping", "-c3", "-i0.2", "-W2", "-I", v4, lab.ServerIPv4.String()); err != nil {
				return fmt.Errorf("from %s: %w\n%s", v4, err, out)
			}
			return nil
		})
		w.firstAnswer(t, "", soon)
		if n := w.counters(t); strings.Contains(config, `"kernel"`) && n["kernel"] < 6 {
			t.Errorf("%v packets were translated by engine: mapped addresses are not left to user space", n)
		}
	})
}
