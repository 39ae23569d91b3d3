package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// idleFor is how long TestIdle looks at a daemon that has nothing to do.
const idleFor = 2 * time.Minute

// idleSample is how often it is looked at.
const idleSample = 200 * time.Millisecond

// maxIdleRSS is what it may use of memory meanwhile, in bytes.
const maxIdleRSS = 25 << 20

// TestIdle counts how often the threads of a daemon at rest get the CPU, on a
// network where nothing happens: at most once a minute. It takes minutes, and
// so runs only where TNAT64_LONG is set.
func TestIdle(t *testing.T) {
	if os.Getenv("TNAT64_LONG") == "" {
		t.Skip("takes minutes: TNAT64_LONG=1 runs it")
	}
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		w.page(t)
		w.Silence(true)
		// The kernel's own timers, garbage collection, a first look at the PLAT, and
		// attempts to reach D-Bus, which is not there: they end after four minutes.
		time.Sleep(5 * time.Minute)
		// One wake-up of the daemon is many switches of its threads, all within
		// milliseconds.
		wakeUps, all, last := 0, 0, switches(t, w.daemon.PID())
		var woken time.Time
		for end := time.Now().Add(idleFor); time.Now().Before(end); time.Sleep(idleSample) {
			if now := switches(t, w.daemon.PID()); now != last {
				if time.Since(woken) > time.Second {
					wakeUps++
				}
				woken, all, last = time.Now(), all+now-last, now
			}
		}
		rss := residentMemory(t, w.daemon.PID())
		t.Logf("%d wake-ups in %v, %d context switches; %.1f MiB of memory", wakeUps, idleFor, all, float64(rss)/(1<<20))
		if most := int(idleFor/time.Minute) + 1; wakeUps > most { // one of them by Go's runtime
			t.Errorf("more than %d", most)
		}
		if rss > maxIdleRSS {
			t.Errorf("more than %d bytes of memory", maxIdleRSS)
		}
	})
}

// switches returns the voluntary context switches of a process's threads.
func switches(t *testing.T, pid int) (all int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	for _, path := range threads {
		all += field(t, path, "voluntary_ctxt_switches:")
	}
	return all
}

// residentMemory returns what a process uses of memory now, in bytes.
func residentMemory(t *testing.T, pid int) int {
	t.Helper()
	return field(t, fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") << 10
}

// field reads a number of a status file of /proc.
func field(t *testing.T, path, name string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return 0
}
