package bus

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"tnat64d/internal/needs"
)

// daemon is a message bus of the test's own, where everybody may be anything.
type daemon struct {
	t       *testing.T
	dir     string
	address string
	cmd     *exec.Cmd
}

const daemonConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <servicedir>%s</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	_, err := exec.LookPath("dbus-daemon")
	needs.That(t, err == nil, "Debian's package dbus-daemon")
	dir, err := os.MkdirTemp("", "bus") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &daemon{t: t, dir: dir, address: "unix:path=" + filepath.Join(dir, "socket")}
	config := fmt.Sprintf(daemonConfig, d.address, dir)
	if err := os.WriteFile(filepath.Join(dir, "bus.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) start() {
	d.t.Helper()
	d.cmd = exec.Command("dbus-daemon", "--config-file="+filepath.Join(d.dir, "bus.conf"), "--nofork", "--nopidfile", "--print-address")
	d.cmd.Stderr = d.t.Output()
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it listens
		d.t.Fatalf("dbus-daemon does not start: %v", err)
	}
}

func (d *daemon) stop() {
	if d.cmd != nil {
		d.cmd.Process.Kill()
		d.cmd.Wait()
		d.cmd = nil
		os.Remove(filepath.Join(d.dir, "socket"))
	}
}

// open returns a Bus on the daemon, with a timeout that keeps tests short.
func (d *daemon) open() *Bus {
	b := New(Options{Address: d.address, Timeout: time.Second})
	d.t.Cleanup(b.Close)
	return b
}

// behind returns the address of a proxy that delays what the bus answers.
func (d *daemon) behind(delay time.Duration) (address string) {
	d.t.Helper()
	path := filepath.Join(d.dir, "slow")
	l, err := net.Listen("unix", path)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			bus, err := net.Dial("unix", filepath.Join(d.dir, "socket"))
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				io.Copy(bus, client)
				bus.Close()
			}()
			go func() {
				defer client.Close()
				for buf := make([]byte, 64<<10); ; {
					n, err := bus.Read(buf)
					if err != nil {
						return
					}
					time.Sleep(delay)
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "unix:path=" + path
}

// connect connects somebody else to the bus.
func (d *daemon) connect() *dbus.Conn {
	d.t.Helper()
	c, err := dbus.Connect(d.address)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// fake is a service that answers as it is told to.
type fake struct {
	conn *dbus.Conn

	mu    sync.Mutex
	props map[dbus.ObjectPath]map[string]map[string]dbus.Variant
}

// serve connects a service that has a name and the methods of its main object.
func (d *daemon) serve(name string, path dbus.ObjectPath, iface string, methods map[string]any) *fake {
	d.t.Helper()
	f := &fake{conn: d.connect(), props: make(map[dbus.ObjectPath]map[string]map[string]dbus.Variant)}
	f.method(path, iface, methods)
	if r, err := f.conn.RequestName(name, dbus.NameFlagReplaceExisting|dbus.NameFlagAllowReplacement); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		d.t.Fatalf("name %q: %v %v", name, r, err)
	}
	return f
}

func (f *fake) method(path dbus.ObjectPath, iface string, methods map[string]any) {
	f.conn.ExportMethodTable(methods, path, iface)
}

// set sets a property; the value may be of the wrong type.
func (f *fake) set(path dbus.ObjectPath, iface, name string, value any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.props[path] == nil {
		f.props[path] = make(map[string]map[string]dbus.Variant)
		f.method(path, properties, map[string]any{
			"Get": func(iface, name string) (dbus.Variant, *dbus.Error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if v, ok := f.props[path][iface][name]; ok {
					return v, nil
				}
				return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"no such property"})
			},
			"GetAll": func(iface string) (map[string]dbus.Variant, *dbus.Error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				out := make(map[string]dbus.Variant)
				for k, v := range f.props[path][iface] {
					out[k] = v
				}
				return out, nil
			},
		})
	}
	if f.props[path][iface] == nil {
		f.props[path][iface] = make(map[string]dbus.Variant)
	}
	f.props[path][iface][name] = dbus.MakeVariant(value)
}

// changed tells everybody that a property has changed.
func (f *fake) changed(path dbus.ObjectPath, iface, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn.Emit(path, properties+".PropertiesChanged", iface, map[string]dbus.Variant{name: f.props[path][iface][name]}, []string{})
}

const (
	linkIndex = 3
	linkName  = "wlan0"
	linkPath  = resolvedPath + "/link/_33"

	devicePath = managerPath + "/Devices/2"
	ip6Path    = managerPath + "/IP6Config/7"
	ip4Path    = managerPath + "/IP4Config/8"
	dhcpPath   = managerPath + "/DHCP4Config/9"
)

// serveResolved runs a systemd-resolved that knows one link.
func (d *daemon) serveResolved() *fake {
	return d.serve(resolvedName, resolvedPath, resolvedName+".Manager", map[string]any{
		"GetLink": func(i int32) (dbus.ObjectPath, *dbus.Error) {
			if i != linkIndex {
				return "", dbus.NewError("org.freedesktop.resolve1.NoSuchLink", nil)
			}
			return linkPath, nil
		},
	})
}

// serveManager runs a NetworkManager that knows one device.
func (d *daemon) serveManager() *fake {
	return d.serve(managerName, managerPath, managerName, map[string]any{
		"GetDeviceByIpIface": func(name string) (dbus.ObjectPath, *dbus.Error) {
			if name != linkName {
				return "", dbus.NewError(managerName+".UnknownDevice", nil)
			}
			return devicePath, nil
		},
	})
}

// serveSettings adds the settings in force to NetworkManager's device.
func (f *fake) serveSettings(ipv4 map[string]any) {
	section := make(map[string]dbus.Variant)
	for k, v := range ipv4 {
		section[k] = dbus.MakeVariant(v)
	}
	f.method(devicePath, managerName+".Device", map[string]any{
		"GetAppliedConnection": func(uint32) (map[string]map[string]dbus.Variant, uint64, *dbus.Error) {
			return map[string]map[string]dbus.Variant{"ipv4": section}, 1, nil
		},
	})
}

// hang returns a method that answers only when the test is over.
func (d *daemon) hang(asked *atomic.Int32) any {
	over := make(chan struct{})
	d.t.Cleanup(func() { close(over) })
	return func(int32) (dbus.ObjectPath, *dbus.Error) {
		asked.Add(1)
		<-over
		return "/", nil
	}
}

// within fails the test if ch yields nothing within a few seconds.
func within[T any](t *testing.T, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(60 * time.Second):
		t.Fatalf("no news: %s", what)
	}
	return v
}

// quiet fails the test if ch yields something in the near future.
func quiet[T any](t *testing.T, ch <-chan T, what string) {
	t.Helper()
	select {
	case v := <-ch:
		t.Fatalf("%s: %v", what, v)
	case <-time.After(150 * time.Millisecond):
	}
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return c
}
