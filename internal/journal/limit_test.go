package journal

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// limited runs f with a logger that is limited, and returns its lines.
func limited(t *testing.T, f func(log *slog.Logger, h *Handler, lines func() []string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var out bytes.Buffer
		h := Limit(NewLines(writer(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return out.Write(b)
		}), slog.LevelInfo))
		f(slog.New(h), h, func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			defer out.Reset()
			return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		})
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFloodIsOneLineAndACount(t *testing.T) {
	limited(t, func(log *slog.Logger, _ *Handler, lines func() []string) {
		for i := range 18 {
			log.Warn("RA ignored", "reason", "no-lifetime", "from", i)
			time.Sleep(time.Second)
		}
		want(t, lines(), "<4>RA ignored reason=no-lifetime from=0")
		time.Sleep(41 * time.Second)
		want(t, lines(), "")
		time.Sleep(2 * time.Second)
		want(t, lines(), `<4>RA ignored (17 more like this in the last minute) reason=no-lifetime from=17 repeated=17`)
		time.Sleep(time.Hour)
		want(t, lines(), "")
		log.Warn("RA ignored", "reason", "no-lifetime", "from", 99)
		want(t, lines(), "<4>RA ignored reason=no-lifetime from=99")
	})
}

func TestFloodWithoutEnd(t *testing.T) {
	limited(t, func(log *slog.Logger, _ *Handler, lines func() []string) {
		for range 600 {
			log.Info("again")
			time.Sleep(time.Second)
		}
		got := lines()
		if len(got) != 10 && len(got) != 11 || got[0] != "<6>again" {
			t.Errorf("ten minutes are %d lines: %q", len(got), got)
		}
		for _, l := range got[1:] {
			if !strings.Contains(l, "more like this in the last minute") {
				t.Errorf("%q", l)
			}
		}
	})
}

func TestWhatIsDifferentIsWritten(t *testing.T) {
	limited(t, func(log *slog.Logger, _ *Handler, lines func() []string) {
		log.Info("no CLAT", "iface", "wlan0", "reason", "no prefix")
		log.Info("no CLAT", "iface", "eth0", "reason", "no prefix")
		log.With("iface", "usb0").Info("no CLAT", "reason", "no prefix")
		log.Info("no CLAT", "iface", "wlan0", "reason", "no address")
		log.Warn("no CLAT", "iface", "wlan0", "reason", "no address")
		log.Info("CLAT is up", "iface", "wlan0", "ipv6", "2001:db8::1")
		log.Info("CLAT is up", "iface", "wlan0", "ipv6", "2001:db8::2")
		log.Debug("not this")
		if got := lines(); len(got) != 7 {
			t.Errorf("%d lines: %q", len(got), got)
		}
	})
}

// A link that flaps is told, the first times.
func TestWhatComesAndGoes(t *testing.T) {
	limited(t, func(log *slog.Logger, _ *Handler, lines func() []string) {
		for range 20 {
			log.Info("CLAT is up", "iface", "wlan0", "ipv6", "2001:db8::1")
			log.Info("no CLAT", "iface", "wlan0", "reason", "wlan0 is down")
			time.Sleep(time.Second)
		}
		if got := lines(); len(got) != 2*again {
			t.Errorf("%d lines: %q", len(got), got)
		}
		time.Sleep(window)
		if got := lines(); len(got) != 2 || !strings.Contains(got[0], "15 more like this") {
			t.Errorf("%q", got)
		}
	})
}

// A sender can make every line a little different.
func TestFloodOfVariants(t *testing.T) {
	limited(t, func(log *slog.Logger, _ *Handler, lines func() []string) {
		for i := range 1000 {
			log.Warn("bad answer", "reason", fmt.Sprint("id ", i))
		}
		if got := lines(); len(got) != variants {
			t.Errorf("%d lines", len(got))
		}
		time.Sleep(window)
		want(t, lines(), `<4>bad answer (990 more like this in the last minute) reason="id 999" repeated=990`)
	})
}

func TestFloodOfMessages(t *testing.T) {
	limited(t, func(log *slog.Logger, h *Handler, lines func() []string) {
		log.Info("first")
		log.Info("first")
		for i := range 100 * kinds {
			log.Info(fmt.Sprint("message ", i))
		}
		got := lines()
		if len(h.limit.kinds) != kinds {
			t.Errorf("%d kinds are remembered", len(h.limit.kinds))
		}
		found := false
		for _, l := range got {
			found = found || l == "<6>first (1 more like this in the last minute) repeated=1"
		}
		if !found {
			t.Error("the count of what is forgotten is lost")
		}
		time.Sleep(window)
		log.Info("last")
		if len(h.limit.kinds) != 1 {
			t.Errorf("%d kinds are remembered", len(h.limit.kinds))
		}
	})
}

func TestFlush(t *testing.T) {
	limited(t, func(log *slog.Logger, h *Handler, lines func() []string) {
		h.Flush()
		log.Info("x")
		log.Info("x")
		log.WithGroup("g").Info("y", "a", 1)
		log.WithGroup("g").Info("y", "a", 1)
		want(t, lines(), "<6>x", "<6>y g.a=1")
		h.Flush()
		if got := lines(); len(got) != 2 {
			t.Errorf("%q", got)
		}
		h.Flush()
		want(t, lines(), "")
	})
}

// At rest nothing wakes us up: in a bubble of synctest time stands still unless
// a timer is waited for.
func TestNoTimerAtRest(t *testing.T) {
	limited(t, func(log *slog.Logger, h *Handler, lines func() []string) {
		log.Info("x")
		log.Info("y")
		if h.limit.timer != nil {
			t.Error("a timer although nothing is held back")
		}
		log.Info("y")
		time.Sleep(window)
		lines()
		if h.limit.timer.Stop() {
			t.Error("a timer although nothing is held back any more")
		}
	})
}

func TestConcurrently(t *testing.T) {
	var out bytes.Buffer
	h := Limit(NewLines(&out, slog.LevelInfo))
	log := slog.New(h)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			log := log.With("n", i)
			for range 200 {
				log.Info("x", "reason", "y")
			}
		})
	}
	wg.Wait()
	h.Flush()
	if got := strings.Count(out.String(), "\n"); got != 2 || !strings.Contains(out.String(), "repeated=1599") {
		t.Errorf("%s", out.String())
	}
}
