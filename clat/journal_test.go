package clat

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestJournalIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(path); err == nil || errors.Is(err, ErrRunning) {
		t.Errorf("a pipe is a journal: %v", err)
	}
}

func TestJournalSurvivesAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "tnat64", "journal")
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")

	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(path); !errors.Is(err, ErrRunning) {
		t.Errorf("a second daemon gets %v", err)
	}
	j.Add("wlan0", a)
	j.Add("eth0", b)
	j.Del("wlan0", a)
	j.f.Close() // as a kill does: the lock goes, the file stays

	f, _ := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	f.WriteString("add wlan0 2001:d\nnonsense\ndel eth0\nadd wlan0 2001:db8::3%x y\nadd wlan0")
	f.Close()

	j, err = OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if e := j.Entries(); len(e) != 1 || e[0] != (JournalEntry{"eth0", b}) {
		t.Errorf("entries %v", e)
	}
	j.Del("eth0", b)
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left behind: %v", err)
	}
}

// TestJournalStaysShort: a host that roams for years while another uplink
// keeps its address.
func TestJournalStaysShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "journal")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	stays, a := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1")
	if err := j.Add("eth0", stays); err != nil {
		t.Fatal(err)
	}
	for range 5000 {
		if err := errors.Join(j.Add("wlan0", a), j.Del("wlan0", a)); err != nil {
			t.Fatal(err)
		}
		a = a.Next()
	}
	if _, err := OpenJournal(path); !errors.Is(err, ErrRunning) {
		t.Errorf("a second daemon gets %v", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() > 2*maxLength {
		t.Errorf("the file has %v bytes (%v)", fi.Size(), err)
	}
	j.Add("wlan0", a)
	os.WriteFile(successor(j.path), []byte("add wlan0 2001:db8:6::6\n"), 0o600)
	j.f.Close() // a kill, while the file is replaced

	j, err = OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := j.Entries(), []JournalEntry{{"eth0", stays}, {"wlan0", a}}; !slices.Equal(got, want) {
		t.Errorf("entries %v", got)
	}
	j.Del("eth0", stays)
	j.Del("wlan0", a)
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left behind: %v", err)
	}
}

// A full disk is reported once and costs nothing else, and what it has cost is
// made good when there is room.
func TestJournalOnAFullDisk(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no /dev/full:", err)
	}
	dir := filepath.Join(t.TempDir(), "not yet")
	j := &Journal{f: f, path: filepath.Join(dir, "journal")}
	defer func() { j.f.Close() }()
	a := netip.MustParseAddr("2001:db8::1")
	if err := j.Add("wlan0", a); err == nil {
		t.Error("no error")
	}
	if err := j.Add("wlan0", a.Next()); err != nil {
		t.Errorf("reported twice: %v", err)
	}
	if len(j.Entries()) != 2 {
		t.Error("entries are forgotten")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := j.Add("wlan0", a.Next().Next()); err != nil {
		t.Error(err)
	}
	const want = "add wlan0 2001:db8::1\nadd wlan0 2001:db8::2\nadd wlan0 2001:db8::3\n"
	if got, err := os.ReadFile(j.path); string(got) != want {
		t.Errorf("the file has %q (%v)", got, err)
	}
}

func TestSecretIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lib", "secret")
	a, err := LoadSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadSecret(file)
	if err != nil || string(a) != string(b) || len(a) != secretLen {
		t.Errorf("secret %x, then %x (%v)", a, b, err)
	}
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(file)); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
	os.WriteFile(file, []byte("short"), 0o600)
	if c, err := LoadSecret(file); err != nil || len(c) != secretLen || string(c) == string(a) {
		t.Errorf("a damaged file gives %x, %v", c, err)
	}
	if c, err := LoadSecret("/dev/null/secret"); err == nil || len(c) != secretLen {
		t.Errorf("no place to keep it: %x, %v", c, err)
	}
}
