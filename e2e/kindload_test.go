package e2e

import (
	"os"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// TestNetworkKindsUnderLoad is TestNetworkKinds with what takes longer: much data,
// many connections of both families to one server and port, path MTU, and a daemon
// that ends while it is in use.
func TestNetworkKindsUnderLoad(t *testing.T) {
	if os.Getenv("TNAT64_LONG") == "" {
		t.Skip("takes minutes: TNAT64_LONG=1 runs it")
	}
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			for _, program := range kind.Programs() {
				needProgram(t, program)
			}
			shared := kind == lab.DHCPv6Only || kind == lab.Cloud
			eachEngine(t, func(t *testing.T, config string) {
				w := newWorldOn(t, stage{network: lab.Options{Kind: kind}, config: config + kind.Config(), prepare: fewPorts})
				w.moved = true // addresses of ports may be in DAD at first
				t.Run("iperf3 TCP up", func(t *testing.T) { w.iperf(t) })
				t.Run("iperf3 TCP down", func(t *testing.T) { w.iperf(t, "-R") })
				t.Run("iperf3 UDP up", func(t *testing.T) { w.iperf(t, "-u", "-b", "50M") })
				t.Run("iperf3 UDP down", func(t *testing.T) { w.iperf(t, "-u", "-b", "50M", "-R") })
				t.Run("UDP of 8 KB", w.datagrams)
				t.Run("bursts", w.bursts)
				t.Run("ESP", w.esp)
				t.Run("port unreachable", w.refused)
				t.Run("connections", w.connectionsOfBoth)
				t.Run("restart", func(t *testing.T) { w.endsInUse(t, 25001, !shared, w.daemon.Stop) })
				t.Run("SIGKILL", func(t *testing.T) { w.endsInUse(t, 25002, false, func() error { w.daemon.Kill(); return nil }) })
			})
			t.Run("path MTU", func(t *testing.T) {
				eachEngine(t, func(t *testing.T, config string) {
					w := newWorld(t, lab.Options{Kind: kind, MTUISP: 1400}, config+kind.Config())
					w.moved = true
					t.Run("download", func(t *testing.T) { w.download(t, size(16<<20)) })
					t.Run("upload", func(t *testing.T) { w.upload(t, size(16<<20)) })
					t.Run("UDP", w.datagrams)
				})
			})
		})
	}
}

// endsInUse ends the daemon and starts it again. An IPv6 connection of the laptop to
// the same server is not disturbed. Nor is a download over IPv4 if the laptop has no
// longer the CLAT's address while nobody translates. Otherwise its kernel takes what
// comes for its own, and answers that there is no such connection.
func (w *world) endsInUse(t *testing.T, port int, download bool, end func() error) {
	var wait func()
	if download {
		udp := w.stream(t, 10*time.Millisecond)
		udp.more(t)
		wait = w.longDownload(t, 60<<20)
		udp.more(t) // it has begun by then
		udp.end()
	}
	// From a port that no flow of the CLAT has had.
	c, err := w.dialFrom("tcp6", port, native(lab.PortEcho))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wantAlive(t, "IPv6 at first", c)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	wantAlive(t, "IPv6 without tnat64d", c)
	w.start(built(t, "tnat64d"), true)
	wantAlive(t, "IPv6 after the restart", c)
	if wait != nil {
		wait()
	}
}
