// Package daemontest stands in for systemd in tests.
package daemontest

import (
	"net"
	"path/filepath"
	"testing"
)

// Listen returns the socket to which this process sends what it tells systemd
// (sd_notify(3)) until the test ends.
func Listen(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { heard.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return heard
}
