package e2e

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"tnat64d/internal/lab"
)

// TestGuest has an IPv4-only guest behind the laptop, which masquerades it as
// Docker, libvirt and hotspots do. Its link has an MTU larger than the CLAT's.
func TestGuest(t *testing.T) {
	t.Parallel()
	eachSteering(t, testGuest)
}

func testGuest(t *testing.T, config string) {
	needRoot(t)
	needProgram(t, "nft")
	needProgram(t, "curl")
	t.Parallel()
	var guest *lab.Host
	w := newWorldOn(t, stage{config: config, prepare: func(l *lab.Lab) (err error) {
		guest, err = l.AddGuest(t.Context())
		return err
	}})
	w.moved = true // the bridge is in DAD
	run := func(t *testing.T, stdin io.Reader, name string, args ...string) (string, error) {
		t.Helper()
		needProgram(t, name)
		cmd := guest.Command(t.Context(), name, args...)
		cmd.Env, cmd.Stdin = lab.WithoutProxies(os.Environ()), stdin
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	t.Run("page", func(t *testing.T) {
		out, err := run(t, nil, "curl", "-sS", "--max-time", "30", url("/"))
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		wants(t, out, lab.Greeting, "you are 203.0.113.")
	})
	t.Run("download", func(t *testing.T) {
		n := size(128 << 20)
		cmd := guest.Command(t.Context(), "curl", "-sS", "--max-time", "30", url(fmt.Sprintf("/bytes/%d", n)))
		cmd.Env = lab.WithoutProxies(os.Environ())
		body, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := lab.Downloaded(body, n); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("upload", func(t *testing.T) {
		n := size(64 << 20)
		out, err := run(t, io.LimitReader(zeros{}, n), "curl", "-sS", "--max-time", "30", "-X", "POST", "-H", "Expect:", "-T", "-", url("/"))
		if err != nil || strings.TrimSpace(out) != fmt.Sprint(n) {
			t.Errorf("the server got %q bytes of %d, %v", out, n, err)
		}
	})
	t.Run("UDP", func(t *testing.T) {
		if err := answered(guest, "", patience); err != nil {
			t.Error(err)
		}
	})
	t.Run("ping", func(t *testing.T) {
		for _, bytes := range []string{"56", "4000"} { // the latter in fragments
			out, err := run(t, nil, "ping", onePing("-s", bytes)...)
			if err != nil {
				t.Errorf("%s bytes: %v\n%s", bytes, err, out)
			}
		}
	})
	t.Run("path MTU", func(t *testing.T) {
		out, err := run(t, nil, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "30", "-M", "do", "-s", "1472", server)
		if err == nil {
			t.Errorf("a packet larger than the link passed:\n%s", out)
		}
		wants(t, strings.ReplaceAll(out, "mtu=1480", "mtu = 1480"), "mtu = 1480")
		if out, err = run(t, nil, "ping", onePing("-M", "do", "-s", "1452")...); err != nil {
			t.Errorf("the largest packet: %v\n%s", err, out)
		}
	})
	w.page(t)
}
