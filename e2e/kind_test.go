package e2e

import (
	"fmt"
	"testing"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestNetworkKinds has the traffic of every day on each kind of network, with real
// servers and clients where the kind has some. On those that give the laptop one
// address the CLAT shares it; nothing is configured.
func TestNetworkKinds(t *testing.T) {
	t.Parallel()
	for _, kind := range []lab.Kind{lab.DHCPv6Only, lab.Cloud, lab.Static, lab.Bridge, lab.Bond, lab.VLAN, lab.PPP, lab.Delegated} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			for _, program := range kind.Programs() {
				needProgram(t, program)
			}
			eachEngine(t, func(t *testing.T, config string) {
				t.Parallel()
				w := newWorld(t, lab.Options{Kind: kind}, config)
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
				t.Run("UDP", w.datagrams)
			})
		})
	}
}
