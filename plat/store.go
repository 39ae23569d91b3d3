package plat

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tnat64d/internal/regularfile"
	"tnat64d/internal/replacefile"
	"tnat64d/siit"
)

// storeHeader is the first line of a file of maps. Each other line is an IPv4
// address, an IPv6 address and the second (Unix time) in which the host was last
// known to send, with a space between.
const storeHeader = "tnat64-gateway maps 1"

// maxLine bounds a line of the file.
const maxLine = 128

// mapsFile is the file of a table's maps.
type mapsFile struct {
	path    string // empty: there is none, and maps are forgotten
	table   *Table
	log     *slog.Logger
	changes uint64 // of the table when it was last written
	stale   bool
	wait    time.Duration       // after a failure
	former  map[netip.Addr]bool // addresses of the file that are not in the pool (any more)
}

// read enters the maps of the file into the table. What cannot be read is logged.
func (f *mapsFile) read() {
	if f.path == "" {
		return
	}
	switch loaded, left, err := f.load(time.Now()); {
	case err != nil:
		f.log.Warn("cannot read the file of maps; hosts may get other addresses", "file", f.path, "reason", err)
	case left > 0:
		f.log.Info("read the file of maps", "maps", loaded, "left_out", left)
	}
	f.changes = f.table.Stats().Changes
}

// writeIf writes the file if it lacks something, and returns when to look
// again. One change is enough, so that a SIGKILL loses a second's maps at most,
// but writing takes a share of the time only.
func (f *mapsFile) writeIf() time.Duration {
	now := f.table.Stats().Changes
	if now == f.changes && !f.stale {
		return time.Second
	}
	begun := time.Now()
	if err := f.write(begun); err != nil {
		if f.wait == 0 {
			f.log.Warn("cannot write the file of maps; retrying", "file", f.path, "reason", err)
		}
		f.wait = min(max(time.Second, 2*f.wait), time.Minute)
		return f.wait
	}
	if f.wait > 0 {
		f.log.Info("wrote the file of maps again", "file", f.path)
	}
	f.changes, f.stale, f.wait = now, false, 0
	return max(time.Second, 20*time.Since(begun))
}

// load enters the dynamic maps of the file, and notes which static ones it has.
// Lines that do not fit the configuration (any more) are left out and counted; a
// file that is not there has none.
func (f *mapsFile) load(now time.Time) (loaded, left int, err error) {
	file, err := regularfile.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(io.LimitReader(file, maxMaps*maxLine))
	lines.Buffer(make([]byte, maxLine), maxLine)
	if !lines.Scan() || lines.Text() != storeHeader {
		return 0, 0, fmt.Errorf("%s is not a file of maps", f.path)
	}
	for lines.Scan() && loaded+left < maxMaps {
		m, ok := parseMap(lines.Text(), now)
		switch {
		case ok && f.table.restore(m, now):
			loaded++
			continue
		case ok && !f.table.config.Pool.Contains(m.IPv4) && f.table.at4(number(m.IPv4)) == nil:
			if f.former == nil {
				f.former = map[netip.Addr]bool{}
			}
			f.former[m.IPv4] = true
		}
		left++
	}
	return loaded, left, lines.Err()
}

// parseMap reads a line of the file. ok is false if it is none.
func parseMap(line string, now time.Time) (m Map, ok bool) {
	f := strings.Split(line, " ")
	if len(f) != 3 {
		return m, false
	}
	v4, err4 := netip.ParseAddr(f[0])
	v6, err6 := netip.ParseAddr(f[1])
	seconds, err := strconv.ParseInt(f[2], 10, 64)
	if err4 != nil || err6 != nil || err != nil || !v4.Is4() || !v6.Is6() || v6.Is4In6() || v6.Zone() != "" {
		return m, false
	}
	m = Map{Pair: siit.Pair{IPv4: v4, IPv6: v6}, Last: time.Unix(seconds, 0)}
	if m.Last.After(now) {
		m.Last = now // somebody has set the clock
	}
	return m, true
}

// write writes the maps at the time now to a file that replaces the old one at
// once.
func (f *mapsFile) write(now time.Time) error {
	if f.path == "" {
		return nil
	}
	return replacefile.Write(f.path, func(w io.Writer) error {
		fmt.Fprintln(w, storeHeader)
		for _, m := range f.table.Maps(now) {
			if m.Static {
				m.Last = now // whoever reads it as a dynamic one later begins here
			}
			if _, err := fmt.Fprintf(w, "%s %s %d\n", m.IPv4, m.IPv6, m.Last.Unix()); err != nil {
				return err
			}
		}
		return nil
	})
}
