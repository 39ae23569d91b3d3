package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// kinds are those of networks other than Ethernet with SLAAC, which the other tests
// have.
var kinds = []lab.Kind{lab.DHCPv6Only, lab.Cloud, lab.Static, lab.Bridge, lab.Bond, lab.VLAN, lab.PPP, lab.NoARP, lab.RawIP, lab.WireGuard, lab.GRE, lab.Delegated}

// kindMTU is the path MTU beyond the PLAT: less than that of any kind's link.
const kindMTU = 1300

// TestNetworkKinds has the traffic of every day on each kind of network, with real
// servers and clients where the kind has some. On those that give the laptop one
// address the CLAT shares it; nothing is configured.
func TestNetworkKinds(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			for _, program := range kind.Programs() {
				needProgram(t, program)
			}
			eachEngine(t, func(t *testing.T, config string) {
				t.Parallel()
				w := newWorld(t, lab.Options{Kind: kind, MTUISP: kindMTU}, config+kind.Config())
				w.moved = true // addresses of ports may be in DAD at first
				own, err := w.LaptopAddress()
				if err != nil {
					t.Fatal(err)
				}
				u := w.wantState(t, lab.Uplink, control.Up)
				shared := kind == lab.DHCPv6Only || kind == lab.Cloud
				if u.CLAT.Shared != shared || shared != (u.CLAT.IPv6 == own) {
					t.Errorf("the CLAT has %s (shared: %v), the laptop %s", u.CLAT.IPv6, u.CLAT.Shared, own)
				}
				if delegated := kind == lab.Delegated; delegated != lab.DelegatedPrefix.Contains(u.CLAT.IPv6) {
					t.Errorf("the CLAT has %s", u.CLAT.IPv6)
				}
				if shared {
					wants(t, w.ctl(t, "status"), fmt.Sprintf("shares %s with this host", own))
				}
				t.Run("page", w.page)
				t.Run("download", func(t *testing.T) { w.download(t, size(8<<20)) })
				t.Run("upload", func(t *testing.T) { w.upload(t, size(8<<20)) })
				t.Run("ping", func(t *testing.T) { w.pings(t, 1) })
				t.Run("ping fragmented", func(t *testing.T) { w.pings(t, 1, "-s", "4000") })
				t.Run("traceroute", func(t *testing.T) { w.traceroute(t) })
				t.Run("DNS", w.dig)
				again := patience
				if kind == lab.PPP {
					again = 5 * time.Second // the buffers of a serial line are short
				}
				t.Run("UDP", func(t *testing.T) { w.datagramsAgain(t, again) })
				t.Run("path MTU", func(t *testing.T) { w.pathMTU(t, kindMTU) })
				if n := w.counters(t); n["kernel"] > 0 != strings.Contains(config, `"kernel"`) {
					t.Errorf("%v packets were translated by engine", n)
				}
			})
		})
	}
}
