package clat

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tnat64d/clat/plan"
)

// journalOf opens a journal with the given text, as a killed daemon leaves it.
func journalOf(t *testing.T, text string) *Journal {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "journal")
	must(t, os.Mkdir(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o600))
	j, err := OpenJournal(path)
	must(t, err)
	t.Cleanup(func() { j.Close() })
	return j
}

func TestJournalOfFormerSysctls(t *testing.T) {
	j := journalOf(t, `set wlan0.7 accept_ra 1 2
set all proxy_ndp 0 1
set all forwarding 0 1
unset all proxy_ndp
set ../../kernel panic 0 1
set .. forwarding 0 1
set wlan0 mtu 0 1
set wlan0 forwarding x 1
set wlan0 forwarding 1
set a/b forwarding 0 1
set wlan0 accept_ra 0 1 2
set wlan0 forw`)
	want := []plan.SysctlChange{{Sysctl: plan.Sysctl{Link: "wlan0.7", Key: "accept_ra"}, Was: 1, Is: 2}, {Sysctl: plan.Sysctl{Link: "all", Key: "forwarding"}, Was: 0, Is: 1}}
	if got := j.Changes(); !slices.Equal(got, want) {
		t.Errorf("changes %v, want %v", got, want)
	}
	for _, c := range j.Changes() {
		must(t, j.Unset(c.Sysctl))
	}
	if st, err := os.Stat(j.path); err != nil || st.Size() != 0 {
		t.Errorf("an empty journal of %v bytes, %v", st, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
