package journal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestIsJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for _, c := range []struct {
		env  string
		want bool
	}{
		{fmt.Sprintf("%d:%d", st.Dev, st.Ino), true},
		{fmt.Sprintf("%d:%d", st.Dev, st.Ino+1), false}, // stderr was redirected
		{fmt.Sprintf("%d:%d", st.Dev+1, st.Ino), false},
		{fmt.Sprintf("%d", st.Dev), false},
		{fmt.Sprintf("%d:%d:1", st.Dev, st.Ino), false},
		{":", false}, {"-1:-1", false}, {"", false},
	} {
		t.Setenv("JOURNAL_STREAM", c.env)
		if got := IsJournal(w); got != c.want {
			t.Errorf("%q: %v", c.env, got)
		}
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	w.Close()
	if IsJournal(w) {
		t.Error("a closed file")
	}
}

func TestNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)

	t.Setenv("JOURNAL_STREAM", "")
	slog.New(New(f, slog.LevelInfo)).Info("text", "iface", "wlan0")
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	log := slog.New(New(f, slog.LevelInfo))
	log.Info("journal", "iface", "wlan0")
	log.Debug("not shown")

	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(string(got), "\n")
	if !strings.HasPrefix(first, "time=") || !strings.HasSuffix(first, " level=INFO msg=text iface=wlan0") {
		t.Errorf("%q", first)
	}
	if second != "<6>journal iface=wlan0\n" {
		t.Errorf("%q", second)
	}
}

type stringer struct{ s *string }

func (s *stringer) String() string { return *s.s }

type secret struct{}

func (secret) LogValue() slog.Value { return slog.StringValue("hidden") }

func TestLines(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(NewLines(&out, slog.LevelDebug))
	for _, c := range []struct {
		log  func()
		want string
	}{
		{func() { log.Error("failed") }, "<3>failed"},
		{func() { log.Warn("odd") }, "<4>odd"},
		{func() { log.Info("CLAT is up") }, "<6>CLAT is up"},
		{func() { log.Debug("detail") }, "<7>detail"},
		{func() { log.Log(t.Context(), slog.LevelWarn+1, "x") }, "<4>x"},
		{func() { log.Info("x", "reason", "no route") }, `<6>x reason="no route"`},
		{func() { log.Info("x", "reason", "a\nb", "n", 7, "d", 90*time.Second, "ok", true) }, `<6>x reason="a\nb" n=7 d=1m30s ok=true`},
		{func() { log.Info("x", "p", netip.MustParsePrefix("64:ff9b::/96"), "err", errors.New("k=v")) }, `<6>x p=64:ff9b::/96 err="k=v"`},
		{func() { log.Info("two\nlines\r\x1b[31m") }, `<6>two\nlines\r\x1b[31m`},
		{func() { log.Info("x", "evil key\n", "", "q", `"`) }, `<6>x "evil key\n"="" q="\""`},
		{func() { log.With("iface", "wlan0").Info("x", "a", 1) }, "<6>x iface=wlan0 a=1"},
		{func() { log.With("iface", "wlan0").WithGroup("g").With("a", 1).Info("x", "b", 2) }, "<6>x iface=wlan0 g.a=1 g.b=2"},
		{func() { log.Info("x", slog.Group("g", "a", 1, slog.Group("", "b", 2)), slog.Attr{}) }, "<6>x g.a=1 g.b=2"},
		{func() { log.WithGroup("").Info("x", "s", secret{}) }, "<6>x s=hidden"},
		{func() { log.Info("x", "t", time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)) }, "<6>x t=2026-11-21T16:00:00Z"},
		{func() { log.Info("x", "b", []byte("bytes"), "l", []int{1, 2}, "nil", nil) }, `<6>x b=bytes l="[1 2]" nil=<nil>`},
		{func() { log.Info("x", "p", (*stringer)(nil), "bad", "\xff") }, `<6>x p=<nil> bad="\xff"`},
		{func() { log.Info("grün", "wo", "Müller") }, "<6>grün wo=Müller"},
	} {
		out.Reset()
		c.log()
		if got := strings.TrimSuffix(out.String(), "\n"); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}

	out.Reset()
	log.Info(strings.Repeat("m", 1<<20), "k", strings.Repeat("v", 1<<20))
	if got := out.Len(); got > 2*maxValue+100 {
		t.Errorf("%d bytes", got)
	}
}
