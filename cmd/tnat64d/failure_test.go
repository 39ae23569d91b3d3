package main

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"tnat64d/internal/needs"
	"tnat64d/internal/say"
)

// Exit statuses are a contract; testscript only knows good and bad.
func TestExitStatus(t *testing.T) {
	path := daemonPath(t)
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"-version"}, say.StatusOK},
		{[]string{"-nonsense"}, say.StatusUsage},
		{[]string{"-config", writeConfig(t, "[clat]\nmtu = 7\n")}, say.StatusUsage},
		{[]string{"-config", "/nonexistent"}, say.StatusUsage},
	} {
		code, stderr, err := exitCode(command(t, path, c.args...))
		if err != nil || code != c.want {
			t.Errorf("%v: status %d (%v), want %d\n%s", c.args, code, err, c.want, stderr)
		}
	}
}

// without runs the daemon with fewer capabilities than we have.
func without(t *testing.T, path, caps, config string) *exec.Cmd {
	t.Helper()
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("needs setpriv: ", err)
	}
	cmd := command(t, setpriv, "--bounding-set="+caps, path, "-config", writeConfig(t, config))
	cmd.Env = directories(t)
	return cmd
}

func TestWithoutRights(t *testing.T) {
	path := daemonPath(t)
	if os.Getuid() != 0 {
		cmd := command(t, path, "-config", writeConfig(t, ""))
		cmd.Env = directories(t)
		expectFailure(t, cmd, "CAP_NET_ADMIN and CAP_BPF missing")
		return
	}
	expectFailure(t, without(t, path, "-all", ""), "no permission to change the network of this host: CAP_NET_ADMIN and CAP_BPF missing")
	expectFailure(t, without(t, path, "-net_admin", ""), "CAP_NET_ADMIN missing")
	// Without CAP_BPF alone it starts, unless the configuration insists on BPF.
	expectFailure(t, without(t, path, "-sys_admin,-bpf", "[clat]\nengine = \"kernel\"\n"), "CAP_BPF missing")
}

// enterNetns moves the test into a network namespace of its own that has the
// uplink wlan0: see [needs.Netns].
func enterNetns(t *testing.T) *netlink.Handle {
	t.Helper()
	needs.Netns(t)
	h, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wlan0"}, PeerName: "lan0"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wlan0", "lan0"} {
		l, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// clean compares a namespace with how enterNetns made it.
func clean(t *testing.T, h *netlink.Handle) {
	t.Helper()
	links, err := h.LinkList()
	if err != nil || len(links) != 3 {
		t.Errorf("links left behind: %v %v", links, err)
	}
	addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Error(err)
	}
	for _, a := range addrs {
		if ip, _ := netip.AddrFromSlice(a.IP); !ip.Unmap().IsLinkLocalUnicast() {
			t.Errorf("address left behind: %s", a)
		}
	}
	for _, l := range links {
		qdiscs, err := h.QdiscList(l)
		for _, q := range qdiscs {
			if q.Type() == "clsact" {
				t.Errorf("qdisc left behind on %s: %v %v", l.Attrs().Name, q, err)
			}
		}
	}
}

const alwaysUp = `
[clat]
enable  = "always"
uplinks = ["wlan0"]
pref64  = ["64:ff9b::/96"]
ipv6    = "2001:db8:1::c1a7"
`

func TestTUNNameTaken(t *testing.T) {
	path := daemonPath(t)
	h := enterNetns(t)
	cmd := command(t, path, "-config", writeConfig(t, alwaysUp+"tun = \"lan0\"\n"))
	cmd.Env = directories(t)
	expectFailure(t, cmd, "interface lan0 exists already and belongs to another program")
	clean(t, h)
}

func TestNoTUNDevice(t *testing.T) {
	path := daemonPath(t)
	h := enterNetns(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("needs unshare: ", err)
	}
	// An empty /dev/net, for this process alone.
	cmd := command(t, unshare, "-m", "sh", "-c", `mount -t tmpfs none /dev/net && exec "$@"`, "sh", path, "-config", writeConfig(t, alwaysUp))
	cmd.Env = directories(t)
	expectFailure(t, cmd, "there is no /dev/net/tun")
	clean(t, h)
}

// Root of a user namespace may make interfaces, but not load programs. Where the
// configuration insists on the kernel engine the start fails half way and must
// undo the first half.
func TestKernelEngineRefused(t *testing.T) {
	path := daemonPath(t)
	needRoot(t)
	cmd := inUserNamespace(t, `
		"$@"; status=$?
		ip -o link | grep -q clat0 && echo "tnat64d: left clat0 behind" >&2
		ip -o -6 addr | grep -q c1a7 && echo "tnat64d: left the address behind" >&2
		exit $status`, path, "-config", writeConfig(t, alwaysUp+"engine = \"kernel\"\n"))
	expectFailure(t, cmd, "packets cannot be steered: load the BPF programs: not permitted")
}

// inUserNamespace is a shell script as root of a user namespace, in a network
// that has the uplink wlan0. "$@" are the arguments.
func inUserNamespace(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	for _, program := range []string{"unshare", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs ", program, ": ", err)
		}
	}
	flags := []string{"--user", "--map-root-user", "--net", "--mount", "sh", "-c"}
	if out, err := exec.Command("unshare", append(flags, "ip link")...).CombinedOutput(); err != nil {
		t.Skipf("needs user namespaces: %v: %s", err, out)
	}
	script = "ip link set lo up && ip link add wlan0 type veth peer name lan0 && ip link set wlan0 up && ip link set lan0 up || exit 99\n" + script
	cmd := command(t, "unshare", append(append(flags, script, "sh"), args...)...)
	cmd.Env = directories(t)
	return cmd
}

func TestIPv6SwitchedOff(t *testing.T) {
	path := daemonPath(t)
	h := enterNetns(t)
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/wlan0/disable_ipv6", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, path, "-config", writeConfig(t, alwaysUp))
	cmd.Env = directories(t)
	expectFailure(t, cmd, "IPv6 is switched off on this interface")
	clean(t, h)
}

// Any local user may have the port: that does not take IPv4 away.
func TestMetricsPortTaken(t *testing.T) {
	path := daemonPath(t)
	h := enterNetns(t)
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	d := startDaemon(t, path, alwaysUp+"[control]\nmetrics = \"127.0.0.1:"+port+"\"\n", directories(t)...)
	d.waitLog(t, "metrics are not served yet: another program uses the port")
	d.waitLog(t, "CLAT is up")
	ln.Close()
	d.waitLog(t, "serving metrics")
	d.stop(t)
	own, err := h.AddrList(lo, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if err := h.AddrDel(lo, &a); err != nil {
			t.Fatal(err)
		}
	}
	clean(t, h)
}

// The state directory may be unwritable, and the runtime directory: the CLAT
// does without.
func TestNoPlaceToWrite(t *testing.T) {
	path := daemonPath(t)
	h := enterNetns(t)
	d := startDaemon(t, path, alwaysUp, "RUNTIME_DIRECTORY=/dev/null/x", "STATE_DIRECTORY=/dev/null/x")
	d.waitLog(t, "CLAT is up")
	d.waitLog(t, "no journal")
	d.waitLog(t, "will change on restart")
	d.stop(t)
	clean(t, h)
}

func TestTwoAtOnce(t *testing.T) {
	path := daemonPath(t)
	h := enterNetns(t)
	env := directories(t)
	first := startDaemon(t, path, alwaysUp, env...)
	first.waitLog(t, "CLAT is up")
	cmd := command(t, path, "-config", writeConfig(t, alwaysUp+"tun = \"clat7\"\n"))
	cmd.Env = env
	expectFailure(t, cmd, "another tnat64d is running in this network namespace")
	if l, err := h.LinkByName("clat0"); err != nil {
		t.Errorf("the first one has lost its interface: %v %v", l, err)
	}
	first.stop(t)
	clean(t, h)
	if _, err := os.Stat(filepath.Join(runDirectory(env))); err == nil {
		t.Error("the runtime directory is left behind")
	}
}

// A second daemon that has other directories, as in a container that shares the host's
// network, does not see the lock of the first one. It takes nothing of that one for
// the remains of a process that was killed.
func TestTwoWithOtherDirectories(t *testing.T) {
	path := daemonPath(t)
	h := enterNetns(t)
	first := startDaemon(t, path, alwaysUp, directories(t)...)
	first.waitLog(t, "CLAT is up")
	uplink, err := h.LinkByName("wlan0")
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan netlink.AddrUpdate, 100)
	done := make(chan struct{})
	defer close(done)
	if err := netlink.AddrSubscribe(changes, done); err != nil {
		t.Fatal(err)
	}
	for _, tun := range []string{"clat0", "clat7"} {
		cmd := command(t, path, "-config", writeConfig(t, alwaysUp+"tun = \""+tun+"\"\n"))
		cmd.Env = directories(t)
		expectFailure(t, cmd, "another tnat64d is running in this network namespace")
	}
	last, err := netlink.ParseAddr("192.0.2.77/32")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(uplink, last); err != nil {
		t.Fatal(err)
	}
	for a := range changes {
		if a.LinkAddress.IP.Equal(last.IP) {
			break
		}
		if !a.NewAddr {
			t.Errorf("%s has been removed by another daemon", a.LinkAddress.IP)
		}
	}
	if err := h.AddrDel(uplink, last); err != nil {
		t.Fatal(err)
	}
	first.stop(t)
	clean(t, h)
}

func runDirectory(env []string) string {
	for _, e := range env {
		if dir, ok := strings.CutPrefix(e, "RUNTIME_DIRECTORY="); ok {
			return dir
		}
	}
	return ""
}

// A stop in the middle of DAD takes the address along.
func TestStopDuringDAD(t *testing.T) {
	path := daemonPath(t)
	h := enterNetns(t)
	d := startDaemon(t, path, alwaysUp, directories(t)...)
	d.waitLog(t, "CLAT is starting")
	d.stop(t)
	clean(t, h)
}
