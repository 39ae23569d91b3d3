package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// messageBus is a D-Bus of the test's own, on which everybody may be anything.
type messageBus struct{ address string }

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

func startBus(t *testing.T) *messageBus {
	t.Helper()
	needProgram(t, "dbus-daemon")
	dir, err := os.MkdirTemp("", "bus") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &messageBus{"unix:path=" + filepath.Join(dir, "socket")}
	file := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, busConfig, b.address), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+file, "--nofork", "--nopidfile", "--print-address")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it listens
		t.Fatalf("dbus-daemon does not start: %v", err)
	}
	return b
}

// how makes the daemon use the bus.
func (b *messageBus) how(*lab.Lab) lab.DaemonOptions {
	return lab.DaemonOptions{Env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + b.address}}
}

// service connects a service that has a name and the methods of its main object.
func (b *messageBus) service(t *testing.T, name string, path dbus.ObjectPath, iface string, methods map[string]any) *dbus.Conn {
	t.Helper()
	c, err := dbus.Connect(b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.ExportMethodTable(methods, path, iface)
	if r, err := c.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("name %q: %v %v", name, r, err)
	}
	return c
}

// feature waits until the daemon says of a feature what check wants.
func (w *world) feature(t *testing.T, name string, check func(control.Feature) bool) control.Feature {
	t.Helper()
	var f control.Feature
	eventually(t, soon, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		s, err := w.daemon.Status(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.Features, func(f control.Feature) bool { return f.Name == name })
		if i < 0 || !check(s.Features[i]) {
			return fmt.Errorf("%s is not as wanted: %+v", name, s.Features)
		}
		f = s.Features[i]
		return nil
	})
	return f
}

func available(f control.Feature) bool { return f.Available }

const (
	resolvedName = "org.freedesktop.resolve1"
	resolvedPath = "/org/freedesktop/resolve1"
	linkPath     = resolvedPath + "/link/_uplink"
	managerName  = "org.freedesktop.NetworkManager"
	managerPath  = "/org/freedesktop/NetworkManager"
	properties   = "org.freedesktop.DBus.Properties"
)

// TestBusServicesThatHang has a systemd-resolved that never answers and a
// NetworkManager that answers nonsense. PREF64 is found by the resolver of
// resolv.conf, IPv4 works, and status says quickly what is the matter.
func TestBusServicesThatHang(t *testing.T) {
	t.Parallel()
	needRoot(t)
	bus := startBus(t)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	bus.service(t, resolvedName, resolvedPath, resolvedName+".Manager", map[string]any{
		"GetLink": func(int32) (dbus.ObjectPath, *dbus.Error) {
			<-over
			return "/", nil
		},
	})
	bus.service(t, managerName, managerPath, managerName, map[string]any{
		"GetDeviceByIpIface": func(string) (int32, bool, *dbus.Error) { return 4711, true, nil },
	})
	w := newWorldOn(t, stage{
		network: lab.Options{NoPREF64: true, DNS: &lab.DNS{NoRDNSS: true}},
		how:     bus.how,
		prepare: func(l *lab.Lab) error {
			return l.SetResolvConf(l.Laptop, fmt.Sprintf("nameserver %s\n", lab.RouterIPv6))
		},
	})
	w.page(t)
	f := w.feature(t, "dns-resolved", func(f control.Feature) bool { return !f.Available })
	wants(t, f.Why, "systemd-resolved does not answer")
	began := time.Now()
	if u := w.wantState(t, lab.Uplink, control.Up); len(u.PREF64) != 1 || u.PREF64[0].Source != "dns" {
		t.Errorf("PREF64 is %+v", u.PREF64)
	}
	t.Logf("status took %v", time.Since(began).Round(time.Millisecond))
	// A hook of a network manager asks for another look: still no harm.
	for range 20 {
		w.nudge(t)
	}
	w.page(t)
	if n := w.book.lines("level=WARN") + w.book.lines("level=ERROR"); n > 2 {
		t.Errorf("%d complaints about D-Bus services", n)
	}
}

// TestBusThatHangs has a bus that lets everybody in and never says a word.
func TestBusThatHangs(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	silent, err := net.Listen("unix", filepath.Join(dir, "socket")) // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	w := newWorldOn(t, stage{how: (&messageBus{"unix:path=" + filepath.Join(dir, "socket")}).how})
	for i := range 5 {
		began := time.Now()
		w.wantState(t, lab.Uplink, control.Up)
		t.Logf("status %d took %v", i, time.Since(began).Round(time.Millisecond))
	}
	for _, name := range []string{"dns-resolved", "dns-networkmanager", "sleep-logind"} {
		f := w.feature(t, name, func(f control.Feature) bool { return !f.Available })
		wants(t, f.Why, "does not answer")
	}
	w.page(t)
}

// TestResolversOfTheLink finds PREF64 by the DNS server that systemd-resolved
// knows for the uplink, as soon as it knows one. That of resolv.conf is no help.
func TestResolversOfTheLink(t *testing.T) {
	t.Parallel()
	needRoot(t)
	bus := startBus(t)
	var (
		mu      sync.Mutex
		servers []netip.Addr
		index   int32
	)
	resolved := bus.service(t, resolvedName, resolvedPath, resolvedName+".Manager", map[string]any{
		"GetLink": func(i int32) (dbus.ObjectPath, *dbus.Error) {
			mu.Lock()
			defer mu.Unlock()
			if i != index {
				return "", dbus.NewError(resolvedName+".NoSuchLink", nil)
			}
			return linkPath, nil
		},
	})
	type server struct {
		Family  int32
		Address []byte
		Port    uint16
		Name    string
	}
	resolved.ExportMethodTable(map[string]any{
		"Get": func(iface, name string) (dbus.Variant, *dbus.Error) {
			mu.Lock()
			defer mu.Unlock()
			if name != "DNSEx" {
				return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
			}
			list := []server{}
			for _, a := range servers {
				list = append(list, server{unix.AF_INET6, a.AsSlice(), 0, ""})
			}
			return dbus.MakeVariant(list), nil
		},
	}, linkPath, properties)
	tell := func(now ...netip.Addr) {
		mu.Lock()
		servers = now
		mu.Unlock()
		resolved.Emit(resolvedPath, properties+".PropertiesChanged", resolvedName+".Manager",
			map[string]dbus.Variant{}, []string{"DNSEx"})
	}
	const decoy = "2001:db8:1::53" // nobody is there
	w := newWorldOn(t, stage{
		network: lab.Options{NoPREF64: true, DNS: &lab.DNS{NoRDNSS: true}},
		how:     bus.how,
		nobody:  true,
		prepare: func(l *lab.Lab) error {
			link, err := l.Laptop.Netlink.LinkByName(lab.Uplink)
			if err != nil {
				return err
			}
			mu.Lock()
			index = int32(link.Attrs().Index)
			mu.Unlock()
			return l.SetResolvConf(l.Laptop, "nameserver "+decoy+"\n")
		},
	})
	w.feature(t, "dns-resolved", available)
	w.wantState(t, lab.Uplink, control.Waiting, "PREF64")
	told := time.Now()
	tell(lab.RouterIPv6)
	u := w.wantState(t, lab.Uplink, control.Up)
	t.Logf("up %v after systemd-resolved knew of a server", time.Since(told).Round(time.Millisecond))
	if len(u.PREF64) != 1 || u.PREF64[0].Source != "dns" || u.PREF64[0].From == nil || u.PREF64[0].From.WithZone("") != lab.RouterIPv6 {
		t.Errorf("PREF64 is %+v", u.PREF64)
	}
	if !slices.Contains(u.Resolvers, lab.RouterIPv6) {
		t.Errorf("resolvers are %v", u.Resolvers)
	}
	w.page(t)
}
