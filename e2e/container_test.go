package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// container is an unprivileged container: a user and a network namespace of uid
// 65534 that has the laptop's uplink and /dev/net/tun, and nothing else. The
// kernel refuses it BPF (kernel.unprivileged_bpf_disabled).
type container struct {
	*lab.Lab
	t   *testing.T
	dir string // writable in the container
	pid int
	log lab.Tail
}

func newContainer(t *testing.T) *container {
	t.Helper()
	needRoot(t)
	for _, p := range []string{"unshare", "setpriv", "nsenter", "ip", "curl", "ping", "traceroute"} {
		needProgram(t, p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	l, err := lab.New(ctx, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	built(t, "tnat64d")
	c := &container{Lab: l, t: t}
	if c.dir, err = os.MkdirTemp(binaries.dir, "container-"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(c.dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	device := filepath.Join(c.dir, "tun")
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(device, 0o666); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("unshare", "--mount", "sh", "-c", fmt.Sprintf(
		"mount --bind %s /dev/net/tun && exec setpriv --reuid %d --regid %[2]d --clear-groups unshare --user --map-root-user --net sleep 600", device, nobody))
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	c.pid = holder.Process.Pid
	t.Cleanup(func() { holder.Process.Kill(); holder.Wait() })
	eventually(t, stepTimeout, func() error {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.pid))
		if err == nil && strings.TrimSpace(string(name)) != "sleep" {
			err = fmt.Errorf("the container runs %s", name)
		}
		return err
	})
	uplink, err := l.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Laptop.Netlink.LinkSetNsPid(uplink, c.pid); err != nil {
		t.Fatal("move the uplink into the container: ", err)
	}
	c.run("ip", "link", "set", "lo", "up")
	c.run("ip", "link", "set", lab.Uplink, "up")
	return c
}

// command prepares a program of the container's root.
func (c *container) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", fmt.Sprint(c.pid), "--user", "--net", "--mount"}, args...)...)
	cmd.Env = append(lab.WithoutProxies(os.Environ()), "RUNTIME_DIRECTORY="+c.dir, "STATE_DIRECTORY="+c.dir,
		"DBUS_SYSTEM_BUS_ADDRESS=unix:path="+filepath.Join(c.dir, "no-bus"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs a program in the container and returns what it printed.
func (c *container) run(args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), stepTimeout)
	defer cancel()
	out, err := c.command(ctx, args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, out, c.log.String())
	}
	return string(out)
}

// start starts tnat64d and returns when its default route is there.
func (c *container) start() *exec.Cmd {
	c.t.Helper()
	file := filepath.Join(c.dir, "tnat64d.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "[control]\nsocket = %q\n", filepath.Join(c.dir, "sock")), 0o644); err != nil {
		c.t.Fatal(err)
	}
	cmd := c.command(context.Background(), built(c.t, "tnat64d"), "-config", file)
	cmd.Stdout, cmd.Stderr = &c.log, &c.log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(c.t, startTimeout, func() error {
		if out := c.run("ip", "-4", "route"); !strings.Contains(out, "default dev clat0") {
			return fmt.Errorf("routes %q\n%s", out, c.log.String())
		}
		return nil
	})
	return cmd
}

// settings are the sysctls by which a host becomes a router.
func (c *container) settings() string {
	return c.run("sh", "-c", "grep -s . /proc/sys/net/ipv6/conf/*/forwarding /proc/sys/net/ipv6/conf/*/force_forwarding /proc/sys/net/ipv6/conf/*/proxy_ndp | grep -v /clat0/")
}

// left returns what a daemon that was killed has left in the container, besides
// the address that the next start removes.
func (c *container) left() string {
	return c.run("sh", "-c", "exec 2>/dev/null; ip -o link | grep clat0; ip -4 route; ip -4 rule | grep -v -e local -e main -e default; true")
}

// TestUnprivilegedContainer runs tnat64d as an ordinary user in namespaces of
// his own: nftables steers, nothing is forwarded, super-packets stay whole, and
// nothing is left after SIGKILL.
func TestUnprivilegedContainer(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	before := c.settings()
	cmd := c.start()
	wants(t, c.log.String(), "steering=nftables", "BPF is refused: load the BPF programs: not permitted", "tso4 tso6")
	if uid, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)); err != nil || !strings.Contains(string(uid), "Uid:\t65534\t65534\t65534\t65534") {
		t.Errorf("the daemon is not uid 65534: %v\n%s", err, uid)
	}
	c.traffic()

	// Super-packets cross the TUN whole: far fewer than segments.
	size := size(64 << 20)
	packets := c.tunPackets()
	if got := c.run("curl", "-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{size_download}", url(fmt.Sprintf("/bytes/%d", size))); got != fmt.Sprint(size) {
		t.Errorf("downloaded %s of %d bytes", got, size)
	}
	if n := c.tunPackets() - packets; n > size/1460/2 {
		t.Errorf("%d packets for %d bytes: segments of super-packets cross the TUN one by one", n, size)
	}
	if after := c.settings(); after != before {
		t.Errorf("sysctls were\n%sare\n%s", before, after)
	}

	// SIGKILL: the TUN, the routes and the tables go with the process.
	cmd.Process.Kill()
	cmd.Wait()
	if left := c.left(); left != "" {
		t.Errorf("left after SIGKILL:\n%s", left)
	}
	if _, err := exec.LookPath("nft"); err == nil {
		if out := c.run("nft", "list", "ruleset"); out != "" {
			t.Errorf("tables left after SIGKILL:\n%s", out)
		}
	}
	if after := c.settings(); after != before {
		t.Errorf("sysctls were\n%sare after SIGKILL\n%s", before, after)
	}
	// The next start finds its way, and stops cleanly.
	cmd = c.start()
	c.traffic()
	cmd.Process.Signal(unix.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("stop: %v\n%s", err, c.log.String())
	}
	if left := c.left(); left != "" {
		t.Errorf("left after SIGTERM:\n%s", left)
	}
	if out := c.run("ip", "-6", "addr", "show", "deprecated"); strings.Contains(out, "/128") {
		t.Errorf("addresses left after SIGTERM:\n%s", out)
	}
}

func (c *container) traffic() {
	c.t.Helper()
	wants(c.t, c.run("curl", "-sS", "--max-time", "20", url("/")), lab.Greeting)
	for range 3 {
		wants(c.t, c.run(append([]string{"ping"}, onePing("-s", "4000")...)...), "1 received")
	}
	path := c.run("traceroute", "-n", "-q", "1", "-w", "20,0,0", server)
	for i, hop := range []string{"192.0.0.2", "192.0.0.8", lab.PLATIPv4.String(), lab.RouterIPv4.String(), lab.ISPIPv4.String(), server} {
		wants(c.t, path, fmt.Sprintf("%2d  %s", i+1, hop))
	}
}

// tunPackets is what clat0 has carried in either direction.
func (c *container) tunPackets() int64 {
	c.t.Helper()
	var links []struct {
		Stats struct {
			RX, TX struct{ Packets int64 }
		} `json:"stats64"`
	}
	out := c.run("ip", "-s", "-json", "link", "show", "clat0")
	if err := json.Unmarshal([]byte(out), &links); err != nil || len(links) != 1 {
		c.t.Fatalf("%v in %s", err, out)
	}
	return links[0].Stats.RX.Packets + links[0].Stats.TX.Packets
}
