package e2e

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// logBook keeps all that a daemon writes to its log, up to a bound that no log
// of a test should reach.
type logBook struct {
	mu   sync.Mutex
	text []byte
}

const logBookBytes = 4 << 20

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.text) < logBookBytes {
		l.text = append(l.text, b...)
	}
	return len(b), nil
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// lines returns how many lines there are in which all the words occur.
func (l *logBook) lines(words ...string) (n int) {
	for line := range strings.Lines(l.String()) {
		if hasAll(line, words) {
			n++
		}
	}
	return n
}

// wantLines waits until the log has n lines in which all the words occur, and
// wants no more of them. The log comes through a pipe: a line may be there only
// after what it tells.
func (w *world) wantLines(t *testing.T, n int, words ...string) {
	t.Helper()
	eventually(t, soon, func() error {
		if got := w.book.lines(words...); got < n {
			return fmt.Errorf("the log has %d lines with %q, not %d:\n%s", got, words, n, w.book.String())
		}
		return nil
	})
	if got := w.book.lines(words...); got != n {
		t.Errorf("the log has %d lines with %q, not %d:\n%s", got, words, n, w.book.String())
	}
}

func hasAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// TestJournal gives the daemon a stream to the journal: lines begin with a
// priority and have no time.
func TestJournal(t *testing.T) {
	t.Parallel()
	needRoot(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stderr, journal := os.NewFile(uintptr(fds[0]), "stderr"), os.NewFile(uintptr(fds[1]), "journal")
	t.Cleanup(func() {
		stderr.Close()
		journal.Close()
	})
	var st unix.Stat_t
	if err := unix.Fstat(fds[0], &st); err != nil {
		t.Fatal(err)
	}
	var w *world
	book := new(logBook)
	go func() {
		lines := bufio.NewScanner(journal)
		for lines.Scan() {
			fmt.Fprintln(book, lines.Text())
		}
	}()
	w = newWorldOn(t, stage{how: func(*lab.Lab) lab.DaemonOptions {
		return lab.DaemonOptions{Log: stderr, Env: []string{fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino)}}
	}})
	w.ping(t)
	if err := w.WithdrawPREF64(); err != nil {
		t.Fatal(err)
	}
	w.wantState(t, lab.Uplink, control.Held)
	w.reload(t, "[clat]\nmtu = \"large\"")
	eventually(t, soon, func() error {
		for words, n := range map[string]int{"<6>CLAT is up": 1, "<6>the network is gone": 1, "<3>rejected the new configuration": 1} {
			if got := book.lines(words); got != n {
				return fmt.Errorf("%d lines with %q, not %d:\n%s", got, words, n, book)
			}
		}
		return nil
	})
	line := regexp.MustCompile(`^<[0-7]>\S`)
	for l := range strings.Lines(book.String()) {
		if !line.MatchString(l) || strings.Contains(l, "time=") || strings.Contains(l, "level=") {
			t.Errorf("not as the journal wants it: %s", l)
		}
	}
}
