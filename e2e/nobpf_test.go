package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tnat64d/internal/lab"
)

// withoutBPF returns a program that is tnat64d with CAP_NET_ADMIN and
// CAP_NET_RAW only: the kernel refuses it BPF.
func withoutBPF(t *testing.T) string {
	t.Helper()
	needProgram(t, "setpriv")
	path := filepath.Join(t.TempDir(), "tnat64d")
	script := fmt.Sprintf("#!/bin/sh\nexec setpriv --bounding-set=-all,+net_admin,+net_raw %s \"$@\"\n", built(t, "tnat64d"))
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNFTablesSteering refuses BPF to tnat64d: nftables steers, and the user
// engine translates everything.
func TestNFTablesSteering(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, lab.Options{}, "", withoutBPF(t))
	wants(t, w.log.String(), "steering=nftables")
	t.Run("page", w.page)
	t.Run("download", func(t *testing.T) { w.download(t, size(256<<20)) })
	t.Run("upload", func(t *testing.T) { w.upload(t, size(256<<20)) })
	t.Run("ping", func(t *testing.T) {
		wants(t, w.laptop(t, "ping", "-n", "-c", "3", "-i", "0.2", server), "3 received")
	})
	t.Run("ping fragmented", w.pingFragmented)
	t.Run("traceroute UDP", func(t *testing.T) { w.traceroute(t) })
	t.Run("traceroute ICMP", func(t *testing.T) { w.traceroute(t, "-I") })
	t.Run("iperf3 TCP up", func(t *testing.T) { w.iperf(t) })
	t.Run("iperf3 TCP down", func(t *testing.T) { w.iperf(t, "-R") })
	t.Run("iperf3 UDP up", func(t *testing.T) { w.iperf(t, "-u", "-b", udpRate()) })
	t.Run("iperf3 UDP down", func(t *testing.T) { w.iperf(t, "-u", "-b", udpRate(), "-R") })
	t.Run("DNS", w.dig)
	t.Run("UDP", w.datagrams)
	t.Run("ESP", w.esp)
	t.Run("port unreachable", w.refused)
	t.Run("2000 connections", w.connections)
}
