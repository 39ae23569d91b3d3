package clat

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// Journal is the file that records which addresses are on an uplink, so that
// the start after a SIGKILL can remove them on kernels without IFA_PROTO as
// well. It is locked while the daemon runs, which also keeps a second daemon
// out of the same network namespace.
//
// The file has one line per step: "add LINK ADDRESS" before an address is
// added and "del LINK ADDRESS" after it is removed. Former versions wrote "set
// LINK KEY WAS IS" before they changed a sysctl; "unset LINK KEY" says that it
// is restored. "route ..." lines have the routes of other programs through a TUN
// of ours, which the next start restores, and "stopped SECONDS" the Unix time
// since when they are gone. A line cut short by a crash is ignored. A file that has become
// long, or lacks a line, is replaced by one that has what is in force.
type Journal struct {
	f       *os.File
	path    string
	length  int // of the file, in bytes
	entries []JournalEntry
	changes []plan.SysctlChange
	routes  []plan.SavedRoute
	stopped time.Time // when routes ceased to be in force; zero: they were until a kill
	failed  error     // of the latest write: the file is not what it should be
}

const (
	// maxLength is from where on the file is replaced. What is in force takes
	// some hundred bytes; a host that roams for years would fill the disk.
	maxLength = 16 << 10
	// readLength is how much is read: longer than anything we write. A file
	// that somebody else filled is no reason to use up the memory.
	readLength = 64 << 10
)

// JournalEntry is an address on a link, by name, because indexes change
// when a device is plugged in again.
type JournalEntry struct {
	Link string
	Addr netip.Addr
}

// ErrRunning is returned by OpenJournal while another process holds the file.
var ErrRunning = errors.New("another tnat64d is running in this network namespace")

// JournalPath returns the file in dir for the network namespace of the
// calling thread: several daemons may run on a machine, one per namespace.
func JournalPath(dir string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", fmt.Errorf("network namespace: %w", err)
	}
	return filepath.Join(dir, fmt.Sprintf("journal-%d", st.Ino)), nil
}

// OpenJournal opens and locks the journal, creating it and its directory if
// needed.
func OpenJournal(path string) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	for range 10 {
		j, err := lockJournal(path)
		if j != nil || err != nil {
			return j, err
		}
	}
	return nil, ErrRunning
}

// lockJournal returns nil without an error if the file was removed by its
// previous owner while we waited for nothing: try again.
func lockJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrRunning
		}
		return nil, fmt.Errorf("journal: lock %q: %w", path, err)
	}
	mine, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Stat(path); err != nil || !os.SameFile(mine, there) {
			f.Close()
			return nil, nil
		}
	}
	j := &Journal{f: f, path: path}
	os.Remove(j.successor()) // of one that was killed meanwhile
	if err := j.read(); err != nil {
		f.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

func (j *Journal) read() error {
	b, err := io.ReadAll(io.LimitReader(j.f, readLength))
	if err != nil {
		return err
	}
	j.length = len(b)
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		j.parse(strings.Fields(s.Text()))
	}
	if !j.stopped.IsZero() && time.Since(j.stopped) > savedFor {
		j.routes = nil
	}
	j.stopped = time.Time{}
	return nil
}

func (j *Journal) parse(f []string) {
	switch {
	case len(f) == 3 && (f[0] == "add" || f[0] == "del"):
		if a, err := netip.ParseAddr(f[2]); err == nil {
			j.note(f[0], JournalEntry{Link: f[1], Addr: a})
		}
	case len(f) == 5 && f[0] == "set":
		was, err1 := strconv.Atoi(f[3])
		is, err2 := strconv.Atoi(f[4])
		if s := (plan.Sysctl{Link: f[1], Key: f[2]}); err1 == nil && err2 == nil && s.Valid() {
			j.noteChange(plan.SysctlChange{Sysctl: s, Was: was, Is: is})
		}
	case len(f) > 0 && f[0] == "route":
		if s, err := parseSavedRoute(f[1:]); err == nil && len(j.routes) < maxSaved {
			j.routes = append(j.routes, s)
		}
	case len(f) == 2 && f[0] == "stopped":
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			j.stopped = time.Unix(n, 0)
		}
	case len(f) == 3 && f[0] == "unset":
		j.forget(plan.Sysctl{Link: f[1], Key: f[2]})
	}
}

func (j *Journal) note(op string, e JournalEntry) {
	at := slices.Index(j.entries, e)
	switch {
	case op == "add" && at < 0:
		j.entries = append(j.entries, e)
	case op == "del" && at >= 0:
		j.entries = slices.Delete(j.entries, at, at+1)
	}
}

// Entries returns the addresses that are on the host, or may be.
func (j *Journal) Entries() []JournalEntry { return slices.Clone(j.entries) }

// Add records that an address is about to be added. An error (a full disk) is
// returned once, and each later step tries to put the file right; the CLAT can
// do without the journal.
func (j *Journal) Add(link string, a netip.Addr) error { return j.write("add", link, a) }

// Del records that an address has been removed.
func (j *Journal) Del(link string, a netip.Addr) error { return j.write("del", link, a) }

func (j *Journal) write(op, link string, a netip.Addr) error {
	j.note(op, JournalEntry{Link: link, Addr: a})
	return j.once("%s %s %s\n", op, link, a)
}

// Routes returns the routes of other programs that are to be restored.
func (j *Journal) Routes() []plan.SavedRoute { return slices.Clone(j.routes) }

// SetRoutes records the routes of other programs through TUNs of ours; stopped
// says since when they are gone, and is zero while they are in force.
func (j *Journal) SetRoutes(routes []plan.SavedRoute, stopped time.Time) error {
	j.routes, j.stopped = slices.Clone(routes), stopped
	before := j.failed
	if j.empty() {
		j.length, j.failed = 0, j.f.Truncate(0)
	} else {
		j.failed = j.replace()
	}
	if j.failed != nil && before == nil {
		return fmt.Errorf("journal: %w", j.failed)
	}
	return nil
}

func (j *Journal) noteChange(c plan.SysctlChange) {
	j.forget(c.Sysctl)
	j.changes = append(j.changes, c)
}

func (j *Journal) forget(s plan.Sysctl) {
	j.changes = slices.DeleteFunc(j.changes, func(c plan.SysctlChange) bool { return c.Sysctl == s })
}

// Changes returns the sysctls that a former version changed and nobody has
// restored, the first change first.
func (j *Journal) Changes() []plan.SysctlChange { return slices.Clone(j.changes) }

// Unset records that a sysctl has been restored.
func (j *Journal) Unset(s plan.Sysctl) error {
	j.forget(s)
	return j.once("unset %s %s\n", s.Link, s.Key)
}

// once is line without the errors that follow the first.
func (j *Journal) once(format string, args ...any) error {
	before := j.failed
	err := j.line(format, args...)
	if before != nil {
		return nil
	}
	return err
}

// line writes what has just been noted.
func (j *Journal) line(format string, args ...any) error {
	switch {
	case j.empty():
		// Nothing left to remember. This also keeps the file short.
		j.length, j.failed = 0, j.f.Truncate(0)
	case j.failed != nil || j.length > maxLength:
		j.failed = j.replace()
	default:
		var n int
		n, j.failed = fmt.Fprintf(j.f, format, args...)
		j.length += n
	}
	if j.failed != nil {
		return fmt.Errorf("journal: %w", j.failed)
	}
	return nil
}

func (j *Journal) successor() string { return j.path + ".new" }

// replace puts a file with what is in force in the place of the old one, in
// one step. It is locked before it can be found, and the old one until it
// cannot be found any more.
func (j *Journal) replace() error {
	f, err := os.OpenFile(j.successor(), os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	text := j.text()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return err
	}
	j.f.Close()
	j.f, j.length = f, len(text)
	return nil
}

// text is the shortest file that says what is in force.
func (j *Journal) text() (b []byte) {
	for _, e := range j.entries {
		b = fmt.Appendf(b, "add %s %s\n", e.Link, e.Addr)
	}
	for _, c := range j.changes {
		b = fmt.Appendf(b, "set %s %s %d %d\n", c.Link, c.Key, c.Was, c.Is)
	}
	for _, s := range j.routes {
		b = fmt.Appendf(b, "route %s\n", strings.Join(savedRouteFields(s), " "))
	}
	if !j.stopped.IsZero() {
		b = fmt.Appendf(b, "stopped %d\n", j.stopped.Unix())
	}
	return b
}

func (j *Journal) empty() bool {
	return len(j.entries) == 0 && len(j.changes) == 0 && len(j.routes) == 0
}

// Close unlocks the journal, and removes it if nothing is left to remember.
func (j *Journal) Close() error {
	if j.empty() {
		os.Remove(j.path)
		os.Remove(filepath.Dir(j.path)) // succeeds only if it is empty
	}
	return j.f.Close()
}
