package plat

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tnat64d/siit"
)

// storeHeader is the first line of a file of maps. Each other line is an IPv4
// address, an IPv6 address and the second (Unix time) in which the host was last
// known to send, with a space between.
const storeHeader = "tnat64-gateway maps 1"

// maxLine bounds a line of the file.
const maxLine = 128

// Load enters the dynamic maps of a file that Save has written, and notes which
// static ones it has. Lines that do not fit the configuration (any more) are left out and counted; a file that is
// not there has none.
func (t *Table) Load(path string, now time.Time) (loaded, left int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxMaps*maxLine))
	lines.Buffer(make([]byte, maxLine), maxLine)
	if !lines.Scan() || lines.Text() != storeHeader {
		return 0, 0, fmt.Errorf("%s is not a file of maps", path)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for lines.Scan() && loaded+left < maxMaps {
		if t.enter(lines.Text(), now) {
			loaded++
		} else {
			left++
		}
	}
	return loaded, left, lines.Err()
}

// enter adds the map of a line of the file. The caller holds t.mu.
func (t *Table) enter(line string, now time.Time) bool {
	f := strings.Split(line, " ")
	if len(f) != 3 {
		return false
	}
	v4, err4 := netip.ParseAddr(f[0])
	v6, err6 := netip.ParseAddr(f[1])
	seconds, err := strconv.ParseInt(f[2], 10, 64)
	if err4 != nil || err6 != nil || err != nil || !v4.Is4() || !v6.Is6() || v6.Is4In6() || v6.Zone() != "" || !t.config.Pool.Contains(v4) {
		return false
	}
	last := time.Unix(seconds, 0)
	if last.After(now) {
		last = now // somebody has set the clock
	}
	if e := t.at4(number(v4)); e != nil && e.static && e.ipv6 == v6.As16() {
		e.kept = true
		return true
	}
	if !t.givable(number(v4)) || t.at4(number(v4)) != nil || t.at6(v6.As16()) != nil || now.Sub(last) >= t.config.Idle {
		return false
	}
	if t.add(v6.As16(), number(v4)-number(t.config.Pool.Addr())-2, last) != siit.None {
		return false
	}
	t.at6(v6.As16()).kept = true
	return true
}

// Save writes the maps at the time now to a file that replaces path at once.
func (t *Table) Save(path string, now time.Time) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".maps-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing once it has its name
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, storeHeader)
	for _, m := range t.Maps(now) {
		if m.Static {
			m.Last = now // whoever reads it as a dynamic one later begins here
		}
		fmt.Fprintf(w, "%s %s %d\n", m.IPv4, m.IPv6, m.Last.Unix())
	}
	err = w.Flush()
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
