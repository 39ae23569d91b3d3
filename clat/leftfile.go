package clat

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tnat64d/internal/regularfile"
	"tnat64d/internal/replacefile"
)

// maxLeftFile bounds how much of the file is read.
const maxLeftFile = 64 << 10

// Load reads the addresses that served until the last stop from the file that
// Save has written. What cannot be read counts as nothing.
func (l LeftAddrs) Load(file string) {
	id, err := NetworkNamespace()
	if err != nil {
		return
	}
	for _, a := range readLeft(file) {
		if a.netns == id {
			l.add(a.entry.Link, a.entry.Addr, a.when)
		}
	}
}

// Save writes the addresses that served until now to a file, for the next
// start. Daemons of other network namespaces may use the same file.
func (l LeftAddrs) Save(file string) error {
	id, err := NetworkNamespace()
	if err != nil || len(l) == 0 {
		return err
	}
	var b bytes.Buffer
	for _, a := range readLeft(file) {
		if a.netns != id {
			fmt.Fprintln(&b, a.netns, a.entry.Link, a.entry.Addr, a.when.Unix())
		}
	}
	for e, when := range l {
		fmt.Fprintln(&b, id, e.Link, e.Addr, when.Unix())
	}
	err = replacefile.Write(file, func(w io.Writer) error {
		_, err := w.Write(b.Bytes())
		return err
	})
	if err != nil {
		return fmt.Errorf("save the addresses that served: %w", err)
	}
	return nil
}

// leftLine is one line of the file: the inode of a network namespace, a link, an
// address and the Unix time of its removal.
type leftLine struct {
	netns uint64
	entry JournalEntry
	when  time.Time
}

// readLeft reads the lines that count still.
func readLeft(file string) (ls []leftLine) {
	b, err := regularfile.Read(file, maxLeftFile)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 4 || len(ls) == maxLeft {
			continue
		}
		netns, err1 := strconv.ParseUint(f[0], 10, 64)
		a, err2 := netip.ParseAddr(f[2])
		seconds, err3 := strconv.ParseInt(f[3], 10, 64)
		when := time.Unix(seconds, 0)
		if since := time.Since(when); err1 == nil && err2 == nil && err3 == nil && a.Is6() && since >= 0 && since <= leftFor {
			ls = append(ls, leftLine{netns, JournalEntry{f[1], a}, when})
		}
	}
	return ls
}
