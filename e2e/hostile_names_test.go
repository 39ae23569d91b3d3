package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// squat tries to open, change, replace and name what tnat64d has made: the files of
// its runtime directory, its process, tables, programs, maps, interface, addresses
// and routes. It returns what it could do.
var _ = addAct("squat", func(args []string) (string, error) {
	dir, tunName, pid := args[0], args[1], args[2]
	var done []string
	try := func(what string, err error) {
		if err == nil {
			done = append(done, what)
		}
	}
	opened := func(path string, flags int) error {
		fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		try("read "+e.Name(), opened(path, unix.O_RDONLY))
		try("write "+e.Name(), opened(path, unix.O_WRONLY))
		try("rename "+e.Name(), os.Rename(path, path+".moved"))
		try("link "+e.Name(), os.Link(path, filepath.Join(os.TempDir(), fmt.Sprintf("squat-%d", os.Getpid()))))
		try("remove "+e.Name(), os.Remove(path))
		if e.Type()&os.ModeSocket != 0 {
			c, err := net.Dial("unix", path)
			if err == nil {
				c.Close()
			}
			try("connect to "+e.Name(), err)
		}
	}
	for _, name := range []string{"journal-1", "pref64-1", "tnat64d.sock"} {
		try("create "+name, opened(filepath.Join(dir, name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY))
		try("plant "+name, os.Symlink("/etc/passwd", filepath.Join(dir, name)))
	}
	for _, name := range []string{"environ", "mem", "fd/3", "maps"} {
		try("open /proc/PID/"+name, opened(filepath.Join("/proc", pid, name), unix.O_RDONLY))
	}
	if n, err := strconv.Atoi(pid); err == nil {
		try("signal", unix.Kill(n, 0))
		if fd, err := unix.PidfdOpen(n, 0); err == nil {
			_, err := unix.PidfdGetfd(fd, 3, 0)
			try("take a descriptor", err)
		}
	}

	for _, t := range []*nftables.Table{
		{Family: nftables.TableFamilyNetdev, Name: "tnat64d-" + tunName}, {Family: nftables.TableFamilyINet, Name: "tnat64d-guard-2"},
	} {
		c, err := nftables.New()
		if err != nil {
			return "", err
		}
		c.AddTable(t)
		try("add table "+t.Name, c.Flush())
		c.DelTable(t)
		try("delete table "+t.Name, c.Flush())
	}
	for _, a := range args[3:] {
		kind, number, _ := strings.Cut(a, ":")
		id, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return "", err
		}
		switch kind {
		case "prog_id":
			_, err = ebpf.NewProgramFromID(ebpf.ProgramID(id))
		case "map_id":
			_, err = ebpf.NewMapFromID(ebpf.MapID(id))
		case "link_id":
			_, err = link.NewFromID(link.ID(id))
		}
		try("open "+a, err)
	}
	tun, err := netlink.LinkByName(tunName)
	if err != nil {
		return "", err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 0, 3).To4(), Mask: net.CIDRMask(32, 32)}}
	try("set the alias", netlink.LinkSetAlias(tun, "tnat64d: CLAT on nowhere"))
	try("set a name", netlink.LinkSetName(tun, "clat9"))
	try("add an alternative name", netlink.LinkAddAltName(tun, "clat9"))
	try("set it down", netlink.LinkSetDown(tun))
	try("add an address", netlink.AddrAdd(tun, address))
	try("add a route", netlink.RouteAdd(&netlink.Route{LinkIndex: tun.Attrs().Index, Dst: address.IPNet, Protocol: 64}))
	try("make an interface", netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "clat1"}}))
	try("make a TUN", netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "clat2"}, Mode: netlink.TUNTAP_MODE_TUN}))
	return strings.Join(done, "\n"), nil
})

// TestHostileNames lets a local user at every object that tnat64d has made.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		if err := os.Chmod(w.Dir, 0o755); err != nil { // as that of the service
			t.Fatal(err)
		}
		var ours []string
		entries, err := os.ReadDir(w.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if name := e.Name(); strings.HasPrefix(name, "journal-") || strings.HasPrefix(name, "pref64-") || filepath.Join(w.Dir, name) == w.daemon.Socket {
				ours = append(ours, name)
			}
		}
		if len(ours) != 3 {
			t.Fatalf("the runtime directory has %v", entries)
		}
		done, err := w.asUser(t, "squat", append([]string{w.Dir, w.clat.TUN, strconv.Itoa(w.daemon.PID())}, w.bpfObjects(t)...)...)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(done) {
			// The lab's own files are in the same directory.
			if _, name, ok := strings.Cut(strings.TrimSpace(line), "read "); ok && !strings.HasPrefix(name, "journal-") && !strings.HasPrefix(name, "pref64-") {
				continue
			}
			t.Errorf("a local user could %s", line)
		}
		w.page(t)
	})
}

// bpfObjects returns the programs, maps and links that the daemon has open, as
// "prog_id:NUMBER" and so on.
func (w *world) bpfObjects(t *testing.T) (all []string) {
	t.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", w.daemon.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range infos {
		text, _ := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			switch f := strings.Fields(line); f[0] {
			case "prog_id:", "map_id:", "link_id:":
				all = append(all, f[0]+f[1])
			}
		}
	}
	return all
}
