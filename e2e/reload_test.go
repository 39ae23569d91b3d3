package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// reload gives the daemon another configuration, but for its control socket.
func (w *world) reload(t *testing.T, config string) {
	t.Helper()
	path := filepath.Join(w.Dir, "tnat64d.toml")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, control, _ := strings.Cut(string(old), "\n[control]\n")
	if err := os.WriteFile(path, []byte(config+"\n[control]\n"+control), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.hup(); err != nil {
		t.Fatal(err)
	}
}

// TestReload changes all that can be changed while the daemon runs, with
// traffic, and somebody who reads the metrics.
func TestReload(t *testing.T) {
	t.Parallel()
	other := netip.MustParsePrefix("3fff:64:9::/96")
	w := newWorld(t, lab.Options{MorePREF64: []netip.Prefix{other}, DNS: &lab.DNS{}}, "")
	stop := make(chan struct{})
	var beside sync.WaitGroup
	var answers, scraped atomic.Int32
	beside.Go(func() {
		for running := true; running; {
			select {
			case <-stop:
				running = false
			case <-time.After(20 * time.Millisecond):
			}
			if answered(w.Laptop, "", 200*time.Millisecond) == nil {
				answers.Add(1)
			}
			m, err := w.daemon.Metrics(t.Context())
			if err != nil || m["tnat64_build_info"] == 0 && len(m) < 20 {
				t.Errorf("metrics: %v, %d of them", err, len(m))
				return
			}
			scraped.Add(1)
		}
	})
	up := func(check func(u control.Uplink) bool) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			eventually(t, startTimeout, func() error {
				u, err := w.status(lab.Uplink)
				if err != nil {
					return err
				}
				if u.State != control.Up || u.CLAT == nil || !check(u) {
					return fmt.Errorf("it is %+v, CLAT %+v\n%s", u, u.CLAT, w.log.String())
				}
				return nil
			})
			w.firstAnswer(t, "", soon)
		}
	}
	inUse := func(p netip.Prefix, source string) func(t *testing.T) {
		return up(func(u control.Uplink) bool {
			return len(u.PREF64) > 0 && u.PREF64[0].Prefix == p && u.PREF64[0].InUse && u.PREF64[0].Source == source
		})
	}
	engine := func(name string) func(t *testing.T) {
		return up(func(u control.Uplink) bool { return u.CLAT.Engine == name })
	}
	none := func(words string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			w.wantCLATs(t, 0)
			eventually(t, soon, func() error {
				s, err := w.daemon.Status(t.Context())
				if err == nil && !strings.Contains(s.Why+whys(s.Uplinks), words) {
					err = fmt.Errorf("status says %q, %+v", s.Why, s.Uplinks)
				}
				return err
			})
		}
	}
	for _, c := range []struct {
		name, config string
		check        func(t *testing.T)
	}{
		{"engine user", "[clat]\nengine = \"user\"", engine("user")},
		{"engine kernel", "[clat]\nengine = \"kernel\"", engine("kernel")},
		{"static pref64", fmt.Sprintf("[clat]\npref64 = [%q]", other), inUse(other, "static")},
		{"bad", "[clat]\npref64 = \"nonsense\"", func(t *testing.T) {
			eventually(t, soon, func() error {
				if n := w.book.lines("rejected the new configuration"); n != 1 {
					return fmt.Errorf("%d lines about it", n)
				}
				return nil
			})
			inUse(other, "static")(t)
		}},
		{"sources dns", fmt.Sprintf("[discovery]\nsources = [\"dns\"]\ndns-servers = [%q]", lab.RouterIPv6), inUse(lab.WellKnownPrefix, "dns")},
		{"sources ra", "[discovery]\nsources = [\"ra\"]", inUse(lab.WellKnownPrefix, "ra")},
		{"never", "[clat]\nenable = \"never\"", none("never")},
		{"always", "[clat]\nenable = \"always\"", engine("kernel")},
		{"an uplink that is not there", "[clat]\nuplinks = [\"eth7\"]", none("eth7")},
		{"uplink", "[clat]\nuplinks = [\"wlan0\"]", engine("kernel")},
		{"mtu", "[clat]\nmtu = 1300", up(func(u control.Uplink) bool { return u.CLAT.MTU4 == 1300 })},
		{"metric", "[clat]\nmetric = 3000", up(func(u control.Uplink) bool { return u.CLAT.Metric == 3000 })},
		{"ipv4", "[clat]\nipv4 = \"192.0.0.5\"", up(func(u control.Uplink) bool { return u.CLAT.IPv4.String() == "192.0.0.5" })},
		{"tun", "[clat]\ntun = \"v4\"", up(func(u control.Uplink) bool { return u.CLAT.TUN == "v4" })},
		{"defaults", "", up(func(u control.Uplink) bool { return u.CLAT.TUN == "clat0" && u.CLAT.Engine == "kernel" })},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.reload(t, c.config)
			c.check(t)
		})
	}
	close(stop)
	beside.Wait()
	t.Logf("%d answers, %d times metrics", answers.Load(), scraped.Load())
	if answers.Load() == 0 || scraped.Load() < 20 { // each step has waited for an answer of its own
		t.Errorf("%d answers, %d times metrics", answers.Load(), scraped.Load())
	}
	w.page(t)
}

func whys(all []control.Uplink) (text string) {
	for _, u := range all {
		text += u.Why + "\n"
	}
	return text
}
