package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tnat64d/internal/regularfile"
	"tnat64d/internal/replacefile"
)

// advertisedFile keeps the prefixes that were advertised on a link. Each line is a
// prefix and the second (Unix time) in which it was last advertised.
type advertisedFile string

// maxAdvertisedFile bounds what is read of a file, in bytes.
const maxAdvertisedFile = 64 << 10

// Load implements [advertise.Store]. Lines that make no sense are left out.
func (f advertisedFile) Load() (map[netip.Prefix]time.Time, error) {
	file, err := regularfile.Open(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all := map[netip.Prefix]time.Time{}
	lines := bufio.NewScanner(io.LimitReader(file, maxAdvertisedFile))
	for lines.Scan() {
		text, at, _ := strings.Cut(lines.Text(), " ")
		p, err := netip.ParsePrefix(text)
		seconds, errTime := strconv.ParseInt(at, 10, 64)
		if err == nil && errTime == nil && p.Addr().Is6() && p == p.Masked() {
			all[p] = time.Unix(seconds, 0)
		}
	}
	return all, lines.Err()
}

// Save implements [advertise.Store]. It replaces the file at once.
func (f advertisedFile) Save(all map[netip.Prefix]time.Time) error {
	return replacefile.Write(string(f), func(w io.Writer) error {
		for p, at := range all {
			if _, err := fmt.Fprintf(w, "%s %d\n", p, at.Unix()); err != nil {
				return err
			}
		}
		return nil
	})
}
