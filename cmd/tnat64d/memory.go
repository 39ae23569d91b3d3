package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/internal/replacefile"
	"tnat64d/pref64"
)

const (
	// leftFor is for how long after the end of a process the next one begins with
	// what it had in use: the time of a restart or an upgrade.
	leftFor = time.Minute
	// maxMemory bounds the file, in bytes.
	maxMemory = 64 << 10
	// keepEvery is how often the file is written at most for lifetimes alone.
	keepEvery = 5 * time.Second
)

// memory is a file with the PREF64 in use on each link, for the next process on the
// same network: discovery may take it seconds, or minutes where the router limits its
// answers. The file is written while the daemon runs, as it may crash.
type memory struct {
	file      string // empty: there is no place for one
	boot      string // identifier of the boot, for which the times count
	log       *slog.Logger
	linkLayer func(link int, a netip.Addr) string

	former []note // of the process before, not used yet
	kept   []note // in the file
	due    time.Time
}

// note is the PREF64 in use on one link.
type note struct {
	Network networkID    `json:"network"`
	PREF64  netip.Prefix `json:"pref64"`
	Source  string       `json:"source"`            // "ra" or "dns"
	Router  netip.Addr   `json:"router"`            // or the resolver
	Default bool         `json:"default,omitempty"` // Router is a default router
	MTU     int          `json:"mtu,omitempty"`
	Ends    bootTime     `json:"ends"`           // of the lifetime
	Left    bootTime     `json:"left,omitempty"` // when the process ended; 0: it has not said
}

// bootTime is a reading of CLOCK_BOOTTIME, in nanoseconds: it goes on while the
// machine sleeps, and nobody sets it.
type bootTime int64

func sinceBoot() bootTime {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return bootTime(t.Nano())
}

func (t bootTime) sub(u bootTime) time.Duration { return time.Duration(t - u) }

// memoryFile is the content of the file.
type memoryFile struct {
	Boot  string `json:"boot"`
	Links []note `json:"links"`
}

var (
	errNotOwn    = errors.New("others than this user and root may write to it")
	errNoFile    = errors.New("it is no file")
	errLong      = fmt.Errorf("it is longer than %d bytes", maxMemory)
	errOtherBoot = errors.New("it is of another boot")
)

// openMemory reads what the process before has written for this network namespace.
func openMemory(linkLayer func(link int, a netip.Addr) string, log *slog.Logger) *memory {
	m := &memory{log: log, linkLayer: linkLayer}
	id, err1 := clat.NetworkNamespace()
	boot, err2 := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err := errors.Join(err1, err2); err != nil {
		log.Debug("the next start waits for a PREF64", "reason", err)
		return m
	}
	m.boot, m.file = strings.TrimSpace(string(boot)), filepath.Join(runtimeDir(), fmt.Sprintf("pref64-%d", id))
	b, err := readOwn(m.file)
	if err == nil {
		m.former, err = parseMemory(b, m.boot, sinceBoot())
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
	case errors.Is(err, errOtherBoot):
		log.Debug("ignored the PREF64 of the previous process", "file", m.file, "reason", err)
	case err != nil:
		log.Warn("ignored the PREF64 of the previous process", "file", m.file, "reason", err)
	}
	return m
}

// readOwn reads a file that nobody but this user and root can have written.
func readOwn(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, errNoFile
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, errNoFile
	case st.Uid != 0 && int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0:
		return nil, errNotOwn
	}
	b, err := io.ReadAll(io.LimitReader(f, maxMemory+1))
	if err == nil && len(b) > maxMemory {
		err = errLong
	}
	return b, err
}

// parseMemory returns the notes of a file that count still. An error says that
// somebody else has written the file, or in another boot.
func parseMemory(b []byte, boot string, now bootTime) (notes []note, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var f memoryFile
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("it is not what tnat64d writes: %w", err)
	}
	switch {
	case d.More():
		return nil, errors.New("it is not what tnat64d writes: something follows")
	case f.Boot != boot:
		return nil, errOtherBoot
	case len(f.Links) > maxLinks:
		return nil, fmt.Errorf("it has %d links", len(f.Links))
	}
	for _, n := range f.Links {
		switch {
		case n.Network.Link == "" || len(n.Network.Link) >= unix.IFNAMSIZ || len(n.Network.Routers) > maxNoted || len(n.Network.Prefixes) > maxNoted:
			return nil, fmt.Errorf("it has no network for %q", n.Network.Link)
		case n.Left < 0 || n.Left > now:
			return nil, errors.New("the previous process ended in the future")
		case n.Ends <= now || n.Left != 0 && now.sub(n.Left) > leftFor:
			continue // over
		}
		if err := n.remembered(now).Check(); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Network.Link, err)
		}
		notes = append(notes, n)
	}
	return notes, nil
}

// remembered returns what n says, at now.
func (n note) remembered(now bootTime) pref64.Remembered {
	r := pref64.Remembered{Prefix: n.PREF64, Router: n.Router, Default: n.Default, Left: n.Ends.sub(now), MTU: n.MTU}
	switch n.Source {
	case pref64.RA.String():
		r.Origin = pref64.RA
	case pref64.DNS.String():
		r.Origin = pref64.DNS
	}
	return r
}

// restore gives a discovery what the process before had in use on its link, if it is
// on the same network.
func (m *memory) restore(l *discovery) {
	at := slices.IndexFunc(m.former, func(n note) bool { return n.Network.Link == l.link.Name })
	if at < 0 {
		return
	}
	n, is, now := m.former[at], m.complete(l.network), sinceBoot()
	err := n.Network.same(is, n.Left == 0)
	r := n.remembered(now)
	if r.Left <= 0 || n.Left != 0 && now.sub(n.Left) > leftFor {
		m.former = slices.Delete(m.former, at, at+1)
		return
	}
	if errors.Is(err, errUndecided) {
		return
	}
	m.former = slices.Delete(m.former, at, at+1)
	if err != nil {
		m.log.Info("the PREF64 of the previous process is of another network", "iface", l.link.Name, "pref64", n.PREF64, "reason", err)
		return
	}
	l.finder.Restore(r)
}

// complete adds the link-layer addresses of the routers.
func (m *memory) complete(n networkID) networkID {
	n.Routers = slices.Clone(n.Routers)
	for i := range n.Routers {
		n.Routers[i].LinkLayer = m.linkLayer(n.Index, n.Routers[i].Addr)
	}
	return n
}

// notesOf returns what is in use now, without link-layer addresses.
func notesOf(links map[int]*discovery) (notes []note) {
	now := sinceBoot()
	for _, l := range links {
		if r, ok := l.finder.Remembered(); ok && len(notes) < maxLinks {
			notes = append(notes, note{Network: l.network, PREF64: r.Prefix, Source: r.Origin.String(), Router: r.Router, Default: r.Default, MTU: r.MTU, Ends: now + bootTime(r.Left)})
		}
	}
	slices.SortFunc(notes, func(a, b note) int { return a.Network.Index - b.Network.Index })
	return notes
}

// same reports whether only times and link-layer addresses differ.
func (n note) same(b note) bool {
	return n.Network.equal(b.Network) && n.PREF64 == b.PREF64 && n.Source == b.Source && n.Router == b.Router && n.Default == b.Default && n.MTU == b.MTU
}

// keep writes what is in use to the file if that has changed, or if half of a lifetime
// in the file has passed. It returns when to call it again; 0: never.
func (m *memory) keep(links map[int]*discovery) time.Duration {
	if m.file == "" {
		return 0
	}
	notes := notesOf(links)
	if !slices.EqualFunc(notes, m.kept, note.same) || len(notes) > 0 && !time.Now().Before(m.due) {
		m.write(notes, 0)
	}
	if len(notes) == 0 {
		return 0
	}
	return max(time.Until(m.due), time.Second)
}

// leave writes what was in use when this process ended. It is called before the
// discoveries end.
func (m *memory) leave(links map[int]*discovery) {
	if m.file != "" {
		m.write(notesOf(links), sinceBoot())
	}
}

// write replaces the file; left says when this process ended, 0 that it goes on.
func (m *memory) write(notes []note, left bootTime) {
	m.kept = notes
	soonest := time.Hour
	full := slices.Clone(notes)
	for i, n := range full {
		full[i].Network, full[i].Left = m.complete(n.Network), left
		soonest = min(soonest, n.Ends.sub(sinceBoot())/2)
	}
	for _, n := range m.former {
		if len(full) < maxLinks && !slices.ContainsFunc(full, func(b note) bool { return b.Network.Link == n.Network.Link }) {
			full = append(full, n)
		}
	}
	m.due = time.Now().Add(max(soonest, keepEvery))
	if err := replaceMemory(m.file, memoryFile{m.boot, full}); err != nil {
		m.log.Debug("the next start waits for a PREF64", "reason", err)
	}
}

// close says in the file that the process before, which has crashed, has ended now.
func (m *memory) close() {
	if m.file == "" || len(m.former) == 0 {
		return
	}
	now := sinceBoot()
	for i := range m.former {
		if m.former[i].Left == 0 {
			m.former[i].Left = now
		}
	}
	if err := replaceMemory(m.file, memoryFile{m.boot, m.former}); err != nil {
		m.log.Debug("the next start waits for a PREF64", "reason", err)
	}
}

// replaceMemory writes the file in one step, or removes it if it has no link.
func replaceMemory(file string, f memoryFile) error {
	if len(f.Links) == 0 {
		if err := os.Remove(file); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	return replacefile.Write(file, func(w io.Writer) error { return json.NewEncoder(w).Encode(f) })
}
