package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// TestNFTablesRefused has another program own the tables that tnat64d needs
// where BPF is refused, with all names that it tries: there is no CLAT, the log and status say why and what to
// do, and the CLAT comes when the reason has gone.
func TestNFTablesRefused(t *testing.T) {
	t.Parallel()
	needProgram(t, "nft")
	var release io.Closer
	w := newWorldOn(t, stage{config: refuseBPF, nobody: true, prepare: func(l *lab.Lab) error {
		nft := l.Laptop.Command(t.Context(), "nft", "-i")
		in, err := nft.StdinPipe()
		if err != nil {
			return err
		}
		if err := nft.Start(); err != nil {
			return err
		}
		t.Cleanup(func() { in.Close(); nft.Wait() })
		release = in
		// The last one is without a number.
		for _, number := range []string{"-2", "-3", "-4", "-5", "-6", "-7", "-8", ""} {
			if _, err := fmt.Fprintf(in, "add table netdev tnat64d-clat0%s { flags owner; }\n", number); err != nil {
				return err
			}
		}
		for range 300 {
			out, err := l.Laptop.Command(t.Context(), "nft", "list", "tables").CombinedOutput()
			if err != nil || strings.Contains(string(out), "tnat64d-clat0\n") {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return fmt.Errorf("nft does not make the table")
	}})
	eventually(t, stepTimeout, func() error {
		if w.book.lines("the CLAT has failed", "packets cannot be steered: load the BPF programs: not permitted", "nftables: add the table: operation not permitted", "hint=") == 0 {
			return fmt.Errorf("it has not said why:\n%s", w.log.String())
		}
		return nil
	})
	status, err := w.daemon.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wants(t, status.Uplinks[0].Why, "packets cannot be steered", "nftables: add the table")
	release.Close()
	w.firstAnswer(t, "", time.Minute)
	if status, err = w.daemon.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := status.Uplinks[0].CLAT; c == nil || c.Steering != "nftables" || !strings.Contains(c.EngineWhy, "BPF is refused: load the BPF programs: not permitted") {
		t.Errorf("status says %+v", c)
	}
}
