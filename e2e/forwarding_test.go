package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tnat64d/internal/lab"
)

// TestForwarding refuses BPF to tnat64d, so that the kernel forwards what user
// space translates: by force_forwarding (Linux 6.17), and by all.forwarding.
func TestForwarding(t *testing.T) {
	for name, hide := range map[string]string{
		"force_forwarding": "",
		"all.forwarding":   "mount --bind /dev/null /proc/sys/net/ipv6/conf/default/force_forwarding;",
	} {
		t.Run(name, func(t *testing.T) {
			needRoot(t)
			needProgram(t, "setpriv")
			_, err := os.Stat("/proc/sys/net/ipv6/conf/default/force_forwarding")
			if hide == "" && err != nil {
				t.Skip("needs Linux 6.17: ", err)
			}
			path := filepath.Join(t.TempDir(), "tnat64d")
			script := fmt.Sprintf("#!/bin/sh\nexec unshare --mount sh -c '%s exec setpriv --bounding-set=-all,+net_admin,+net_raw %s \"$@\"' sh \"$@\"\n", hide, built(t, "tnat64d"))
			if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			w := newWorldOf(t, lab.Options{}, "", path)
			w.forwards = true
			wants(t, w.log.String(), "falling back to kernel forwarding")
			size := int64(256 << 20)
			if testing.Short() { // an emulated machine
				size = 16 << 20
			}
			t.Run("page", w.page)
			t.Run("download", func(t *testing.T) { w.download(t, size) })
			t.Run("upload", func(t *testing.T) { w.upload(t, size) })
			t.Run("ping", func(t *testing.T) {
				wants(t, w.laptop(t, "ping", "-n", "-c", "3", "-i", "0.2", server), "3 received")
			})
			t.Run("ping fragmented", w.pingFragmented)
			t.Run("traceroute UDP", func(t *testing.T) { w.traceroute(t) })
			t.Run("traceroute ICMP", func(t *testing.T) { w.traceroute(t, "-I") })
			t.Run("DNS", w.dig)
			t.Run("UDP", w.datagrams)
			t.Run("ESP", w.esp)
			t.Run("port unreachable", w.refused)
		})
	}
}
