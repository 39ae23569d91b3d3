package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// endless is a server that sends to whoever connects, as fast as it can.
const endless = `
import socket, threading
def each(c):
    try:
        while True: c.sendall(b"x" * 65536)
    except OSError: pass
l = socket.create_server(("198.51.100.7", 81))
while True: threading.Thread(target=each, args=(l.accept()[0],), daemon=True).start()
`

// download prints how much it has received, a line each 100 ms.
const download = `
import socket, time
s = socket.create_connection(("SERVER", 81), 60); s.settimeout(60)
n, said = 0, 0
while True:
    b = s.recv(65536)
    if not b: break
    n += len(b)
    if time.time() - said > 0.1: said = time.time(); print(n, flush=True)
`

// Connections outlast a reload and a restart while the server sends: what arrives when
// nobody translates must not reach the gateway's own TCP, which would reset them.
func TestGatewayHandover(t *testing.T) { eachGatewayEngine(t, testGatewayHandover) }

func testGatewayHandover(t *testing.T, engine string) {
	needProgram(t, "nft")
	const pool = "nat44 = \"pool\"\naddresses = [\"203.0.113.3\"]\n"
	n := newGatewayNet(t, engine)
	n.background(t, "s", "exec python3 - <<'END'"+endless+"END")
	eventually(t, soon, func() error {
		_, err := n.try("s", "python3 -c 'import socket; socket.create_connection((\"198.51.100.7\", 81), 5)'")
		return err
	})
	// goesOn starts a download, does something, and waits for more of it.
	goesOn := func(what string, do func()) {
		t.Helper()
		var got lockedBuffer
		c := n.command(t.Context(), "c1", "exec python3 -u - <<'END'"+strings.ReplaceAll(download, "SERVER", to("198.51.100.7"))+"END")
		c.Stdout, c.Stderr = &got, &got
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { c.Process.Kill(); c.Wait() }()
		more := func() {
			t.Helper()
			before := strings.Count(got.String(), "\n")
			eventually(t, soon, func() error {
				if out := got.String(); strings.Contains(out, "Error") || strings.Count(out, "\n") < before+3 {
					return fmt.Errorf("%s: the download does not go on:\n%s", what, out)
				}
				return nil
			})
		}
		for range 3 {
			more()
			do()
		}
		more()
	}
	goesOn("reload with masquerading", func() { n.reload(engine) })
	n.reload(engine + pool)
	goesOn("reload with an outside address", func() { n.reload(engine + pool) })

	// A socket's path may have 107 bytes: t.TempDir is too long.
	dir, err := os.MkdirTemp("", "systemd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n.end(syscall.SIGTERM)
	if n.manager, err = lab.NewServiceManager(filepath.Join(dir, "notify")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.manager.Close() })
	n.start()
	goesOn("restart by a service manager", func() {
		n.end(syscall.SIGTERM)
		time.Sleep(300 * time.Millisecond) // what the server sends meanwhile is for nobody
		n.start()
	})
	eventually(t, soon, func() error {
		if names := n.manager.Names(); len(names) > 0 {
			return fmt.Errorf("the service manager still has %s", names)
		}
		return nil
	})
	// When the service manager closes what it has, nothing is left.
	n.end(syscall.SIGTERM)
	n.manager.Close()
	eventually(t, soon, func() error {
		if out := n.in("g", "nft list tables"); strings.TrimSpace(out) != "" {
			return fmt.Errorf("left behind: %s", out)
		}
		return nil
	})
}
