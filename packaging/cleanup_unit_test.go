package packaging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/needs"
)

// behaviour is what of a unit decides when its programs run.
var behaviour = regexp.MustCompile(`^(\[.*\]|(Wants|After|StopWhenUnneeded|RefuseManualStart|StartLimit\w+|RemainAfterExit|Exec(Start|Stop|StopPost)|Restart\w*)=.*|Type=oneshot)$`)

// userManager is the begin of a script with a systemd of its own, in a cgroup of its
// own. It ends with 77 where systemd does not run.
const userManager = `
mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system $XDG_RUNTIME_DIR
cd "$HOME"
for d in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
	[ ! -e $d/cgroup.procs ] || { mkdir $d/$CGROUP && echo $$ >$d/$CGROUP/cgroup.procs; } || exit 77
done
[ -x /lib/systemd/systemd ] || exit 77
/lib/systemd/systemd --user >manager 2>&1 &
s() { systemctl --user "$@"; }
n=0; until s is-system-running 2>/dev/null | grep -Eq 'running|degraded'; do sleep 0.1; n=$((n+1)); [ $n -lt 200 ] || exit 77; done
is() { s show -p SubState --value "$1"; }
await() { n=0; until [ "$(is $1)" = $2 ]; do sleep 0.1; n=$((n+1)); [ $n -lt 200 ] || { echo "$1 is $(is $1), not $2"; exit 1; }; done; }
`

// cleaningUp is the scene of tnat64d and its unit for cleaning up.
const cleaningUp = `
begin() { echo "$1"; s start tnat64d; await tnat64d running; :>log; }
crash() { p=$(s show -p MainPID --value tnat64d); [ "$p" -gt 1 ]; kill -9 $p; await tnat64d auto-restart; }
cleaned() { await tnat64d-cleanup dead; [ $(grep -c tnat64d-cleanup log) = 1 ]; }
kept() { [ $(is tnat64d-cleanup) = exited ]; ! grep tnat64d-cleanup log; }

begin "stop"
s stop tnat64d; cleaned
begin "stop between a crash and the restart"
crash; s stop tnat64d; cleaned
begin "restart"
s restart tnat64d; await tnat64d running; kept
begin "crash"
crash; await tnat64d running; kept
echo passed
`

// TestCleanUpUnit has systemd run our units with other programs, and sees when the one
// for cleaning up does so: at each end, and not at a restart. After a crash systemd
// runs ExecStopPost= of the daemon's unit before it waits to restart it, and not again
// when that is called off.
func TestCleanUpUnit(t *testing.T) {
	needs.Root(t, "runs systemd in namespaces of its own")
	need(t, "systemctl", "unshare")
	dir := t.TempDir()
	units := filepath.Join(dir, "conf/systemd/user")
	if err := os.MkdirAll(units, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{unit, cleanupUnit} {
		var text strings.Builder
		for _, line := range lines(readFile(t, u)) {
			switch {
			case !behaviour.MatchString(line):
				continue
			case strings.HasPrefix(line, "ExecStart="):
				line = "ExecStart=/bin/sleep 1000"
			case strings.HasPrefix(line, "RestartSec="):
				line = "RestartSec=3s" // so that the test finds it waiting
			case strings.HasPrefix(line, "Exec"):
				line = fmt.Sprintf("%s=/bin/sh -c 'echo %s >>%s/log'", line[:strings.Index(line, "=")], filepath.Base(u), dir)
			}
			fmt.Fprintln(&text, line)
		}
		if err := os.WriteFile(filepath.Join(units, filepath.Base(u)), []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// The end of the namespace ends systemd and all that it has started.
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", userManager+cleaningUp)
	cgroup := fmt.Sprintf("tnat64-test-%d", os.Getpid())
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR=/run/user", "XDG_CONFIG_HOME="+dir+"/conf", "DBUS_SESSION_BUS_ADDRESS=", "CGROUP="+cgroup)
	t.Cleanup(func() { removeCgroups(t, cgroup) })
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 77 {
		t.Skipf("systemd does not run here:\n%s", out)
	}
	if err != nil || !strings.Contains(string(out), "\npassed\n") {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Errorf("%v\n%s\nlog:\n%s", err, out, log)
	}
}

// removeCgroups removes the empty cgroups of that name and those in them.
func removeCgroups(t *testing.T, name string) {
	for _, root := range []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var all []string
		filepath.WalkDir(filepath.Join(root, name), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for i := len(all) - 1; i >= 0; i-- {
			for range 50 { // the kernel takes a moment to forget its processes
				if err := os.Remove(all[i]); err == nil || errors.Is(err, os.ErrNotExist) {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
}
