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
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
	"tnat64d/internal/regularfile"
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
	journalled
	f      *os.File
	path   string
	length int   // of the file, in bytes
	failed error // of the latest write: the file is not what it should be
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
	id, err := NetworkNamespace()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, fmt.Sprintf("journal-%d", id)), nil
}

// NetworkNamespace returns the inode of the calling thread's network namespace.
func NetworkNamespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	return st.Ino, nil
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
		if err := regularfile.Check(path, mine); err != nil {
			f.Close()
			return nil, fmt.Errorf("journal: %w", err)
		}
		var there os.FileInfo
		if there, err = os.Stat(path); err != nil || !os.SameFile(mine, there) {
			f.Close()
			return nil, nil
		}
	}
	j := &Journal{f: f, path: path}
	os.Remove(successor(j.path)) // of one that was killed meanwhile
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

// Entries returns the addresses that are on the host, or may be.
func (j *Journal) Entries() []JournalEntry { return slices.Clone(j.entries) }

// Add records that an address is about to be added. An error (a full disk) is
// returned once, and each later step tries to put the file right; the CLAT can
// do without the journal.
func (j *Journal) Add(link string, a netip.Addr) error {
	j.note("add", JournalEntry{Link: link, Addr: a})
	return j.line("add %s %s\n", link, a)
}

// Del records that an address has been removed.
func (j *Journal) Del(link string, a netip.Addr) error {
	j.note("del", JournalEntry{Link: link, Addr: a})
	return j.line("del %s %s\n", link, a)
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

// Changes returns the sysctls that a former version changed and nobody has
// restored, the first change first.
func (j *Journal) Changes() []plan.SysctlChange { return slices.Clone(j.changes) }

// Unset records that a sysctl has been restored.
func (j *Journal) Unset(s plan.Sysctl) error {
	j.forget(s)
	return j.line("unset %s %s\n", s.Link, s.Key)
}

// line writes what has just been noted. Of several errors in a row it returns
// the first only.
func (j *Journal) line(format string, args ...any) error {
	before := j.failed
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
	if j.failed != nil && before == nil {
		return fmt.Errorf("journal: %w", j.failed)
	}
	return nil
}

// successor is the file that replaces the journal at path.
func successor(path string) string { return path + ".new" }

// replace puts a file with what is in force in the place of the old one, in
// one step. It is locked before it can be found, and the old one until it
// cannot be found any more.
func (j *Journal) replace() error {
	f, err := os.OpenFile(successor(j.path), os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
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

// Close unlocks the journal, and removes it if nothing is left to remember.
func (j *Journal) Close() error {
	if j.empty() {
		os.Remove(j.path)
		os.Remove(filepath.Dir(j.path)) // succeeds only if it is empty
	}
	return j.f.Close()
}
