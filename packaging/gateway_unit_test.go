package packaging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/needs"
)

// killedGateway is the scene that userManager runs for tnat64-gateway: what a SIGKILL
// leaves behind, before systemd starts the daemon again and when it never does.
const killedGateway = `
ip link set lo up
ip link add lan0 type veth peer name inside; ip link add wan0 type veth peer name outside
for l in lan0 inside wan0 outside; do ip link set $l up; done
ip -6 addr add 2001:db8:1::1/64 dev lan0 nodad; ip addr add 203.0.113.1/24 dev wan0
ours() { nft list tables | grep tnat64-gateway; ip -o link show type tun; ip -4 route show proto 64; ip -6 route show proto 64; }
begin() { echo "$1"; s start tnat64-gateway; await tnat64-gateway running; [ $(ours | wc -l) = 6 ] || { ours; exit 1; }; }
crash() { p=$(s show -p MainPID --value tnat64-gateway); [ "$p" -gt 1 ]; kill -9 $p; await tnat64-gateway auto-restart; }
clean() { n=0; while [ -n "$(ours)" ]; do sleep 0.1; n=$((n+1)); [ $n -lt 200 ] || { echo "left behind:"; ours; exit 1; }; done; }

begin "stop"
s stop tnat64-gateway; clean
begin "crash, and the restart"
crash; clean; await tnat64-gateway running; [ $(ours | wc -l) = 6 ]
echo "restart: systemd has the rules that keep connections between the processes"
s restart tnat64-gateway; grep -q "ip tnat64-gateway-hold" $HOME/between
n=0; while [ $(ours | wc -l) != 6 ]; do sleep 0.1; n=$((n+1)); [ $n -lt 200 ] || { ours; exit 1; }; done
[ "$(s show -p NFileDescriptorStore --value tnat64-gateway)" = 0 ]
echo "stop between a crash and the restart"
crash; s stop tnat64-gateway; clean
echo "stop after a restart"
begin "start"; s restart tnat64-gateway; s stop tnat64-gateway; clean
echo passed
`

// TestGatewayUnitKilled has systemd run the unit with the real daemon and kills it: the
// kernel removes nftables tables, TUN and routes with the process, so that no unit has to
// clean up after it. Over a restart systemd keeps the rules that keep connections.
func TestGatewayUnitKilled(t *testing.T) {
	if os.Getenv("TNAT64_LONG") == "" {
		t.Skip("waits for systemd's restarts: TNAT64_LONG=1 runs it")
	}
	needs.Root(t, "runs systemd in namespaces of its own")
	need(t, "systemctl", "unshare", "ip", "nft")
	dir := t.TempDir()
	program := filepath.Join(dir, "tnat64-gateway")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/tnat64-gateway").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	conf := filepath.Join(dir, "gateway.toml")
	text := fmt.Sprintf("[nat64]\nprefix = \"2001:db8:64::/96\"\ninside = [\"lan0\"]\noutside = [\"wan0\"]\n[control]\nsocket = \"%s/socket\"\n", dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	units := filepath.Join(dir, "conf/systemd/user")
	if err := os.MkdirAll(units, 0o755); err != nil {
		t.Fatal(err)
	}
	var unit strings.Builder
	for _, line := range lines(readFile(t, "systemd/tnat64-gateway.service")) {
		switch {
		case strings.HasPrefix(line, "Exec") && !strings.HasPrefix(line, "ExecStart="), !behaviour.MatchString(line) && !strings.HasPrefix(line, "FileDescriptorStoreMax=") && line != "Type=notify":
			continue
		case strings.HasPrefix(line, "ExecStart="):
			line = "ExecStartPre=/bin/sh -c 'nft list tables > " + dir + "/between'\nExecStart=" + program + " -setup -config " + conf + "\nEnvironment=RUNTIME_DIRECTORY=" + dir + " STATE_DIRECTORY=" + dir
		}
		fmt.Fprintln(&unit, line)
	}
	if err := os.WriteFile(filepath.Join(units, "tnat64-gateway.service"), []byte(unit.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	// The end of the namespace ends systemd and all that it has started.
	cmd := exec.CommandContext(ctx, "unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", userManager+killedGateway)
	cgroup := fmt.Sprintf("tnat64-test-gateway-%d", os.Getpid())
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR=/run/user", "XDG_CONFIG_HOME="+dir+"/conf", "DBUS_SESSION_BUS_ADDRESS=", "CGROUP="+cgroup)
	t.Cleanup(func() { removeCgroups(t, cgroup) })
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 77 {
		t.Skipf("systemd does not run here:\n%s", out)
	}
	if err != nil || !strings.Contains(string(out), "\npassed\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
