package bus

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

func TestNoBus(t *testing.T) {
	b := New(Options{Address: "unix:path=/nonexistent/socket"})
	defer b.Close()
	_, _, err := b.LinkDNS(ctx(t), linkIndex, linkName)
	if !errors.Is(err, ErrNoBus) || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("LinkDNS: %v", err)
	}
	for _, f := range b.Features(ctx(t)) {
		if f.Available || !strings.Contains(f.Why, "/nonexistent/socket") {
			t.Errorf("%+v", f)
		}
	}
	b.Close()
	if _, _, err := b.LinkDNS(ctx(t), linkIndex, linkName); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAddress(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/elsewhere")
	if b := New(Options{}); b.connection.address != "unix:path=/elsewhere" || b.connection.timeout != time.Second {
		t.Errorf("%q, %s", b.connection.address, b.connection.timeout)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "")
	if b := New(Options{}); b.connection.address != usualAddress {
		t.Errorf("%q", b.connection.address)
	}
	b := New(Options{Address: "nonsense"})
	defer b.Close()
	if _, err := b.connection.connect(ctx(t)); !errors.Is(err, ErrNoBus) {
		t.Error(err)
	}
}

// A bus that is looked for in vain is found as soon as it is there and somebody
// asks.
func TestBusComes(t *testing.T) {
	d := startDaemon(t)
	d.stop()
	b := d.open()
	if _, err := b.connection.connect(ctx(t)); !errors.Is(err, ErrNoBus) {
		t.Fatal(err)
	}
	d.start()
	r := d.serveResolved()
	r.set(linkPath, resolvedName+".Link", "DNSEx", []serverEx{{10, bytesOf("2001:db8::53"), 0, ""}})
	wantDNS(t, b, "systemd-resolved", "2001:db8::53")
}

// A bus that was absent is connected once it runs, without another question:
// only a connection tells of sleep and of changes.
func TestBusComesUnasked(t *testing.T) {
	d := startDaemon(t)
	d.stop()
	b := d.open()
	b.Features(ctx(t))
	d.start()
	within(t, b.DNSChanged(), "connected, without being asked")
	logind := d.serve(logindName, logindPath, logindName+".Manager", nil)
	logind.conn.Emit(logindPath, logindName+".Manager.PrepareForSleep", true)
	within(t, b.Sleep(), "sleep")
}

// A bus on a busy machine takes long for each answer. Connecting takes few
// round trips: six here, and 17 if each call waited for the one before.
func TestSlowBus(t *testing.T) {
	d := startDaemon(t)
	d.serveResolved()
	b := New(Options{Address: d.behind(400 * time.Millisecond), Timeout: 5 * time.Second})
	defer b.Close()
	if _, err := b.connection.connect(ctx(t)); err != nil {
		t.Error(err)
	}
}

// Something that lets us connect and says nothing costs one timeout.
func TestSilentBus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := New(Options{Address: "unix:path=" + path, Timeout: 50 * time.Millisecond})
	defer b.Close()
	for _, want := range []string{"within 50ms", "next attempt in 30s"} {
		if _, err := b.connection.connect(ctx(t)); !errors.Is(err, ErrNoBus) || !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

// A service that never answers is asked once, and asked again when it has been
// restarted.
func TestSilentService(t *testing.T) {
	d := startDaemon(t)
	var asked atomic.Int32
	r := d.serve(resolvedName, resolvedPath, resolvedName+".Manager", map[string]any{"GetLink": d.hang(&asked)})
	m := d.serveManager()
	m.set(devicePath, managerName+".Device", "Ip6Config", dbus.ObjectPath(ip6Path))
	m.set(ip6Path, managerName+".IP6Config", "Nameservers", [][]byte{bytesOf("2001:db8::53")})
	b := New(Options{Address: d.address, Timeout: 3 * time.Second})
	defer b.Close()
	for range 3 {
		wantDNS(t, b, "NetworkManager", "2001:db8::53")
	}
	if asked := asked.Load(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if f := b.Features(ctx(t))[0]; f.Available || !strings.Contains(f.Why, "does not answer") {
		t.Errorf("%+v", f)
	}

	within(t, b.DNSChanged(), "connected")
	r.conn.Close()
	within(t, b.DNSChanged(), "resolved has gone")
	again := d.serveResolved()
	again.set(linkPath, resolvedName+".Link", "DNSEx", []serverEx{{10, bytesOf("2001:db8::54"), 0, ""}})
	within(t, b.DNSChanged(), "resolved is back")
	wantDNS(t, b, "systemd-resolved", "2001:db8::54")
}

// A caller that gives up says nothing about the service.
func TestImpatientCaller(t *testing.T) {
	d := startDaemon(t)
	var asked atomic.Int32
	d.serve(resolvedName, resolvedPath, resolvedName+".Manager", map[string]any{"GetLink": d.hang(&asked)})
	b := d.open()
	b.Features(ctx(t))
	c, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := b.LinkDNS(c, linkIndex, linkName); err == nil || errors.Is(err, ErrSilent) {
		t.Error(err)
	}
	if f := b.Features(ctx(t))[0]; !f.Available {
		t.Errorf("%+v", f)
	}
}

func TestFeatures(t *testing.T) {
	d := startDaemon(t)
	d.serveManager()
	f := d.open().Features(ctx(t))
	if len(f) != 3 || f[0].Available || !f[1].Available || f[2].Available ||
		f[1].Name != "dns-networkmanager" || f[1].Why != "" ||
		f[2].Why != "systemd-logind is not running: suspend is detected by comparing clocks" {
		t.Errorf("%+v", f)
	}
}

func TestDNSChanges(t *testing.T) {
	d := startDaemon(t)
	r, m := d.serveResolved(), d.serveManager()
	r.set(resolvedPath, resolvedName+".Manager", "DNS", []server{})
	r.set(resolvedPath, resolvedName+".Manager", "CurrentDNSServer", "x")
	m.set(ip6Path, managerName+".IP6Config", "Nameservers", [][]byte{})
	m.set(devicePath, managerName+".Device", "Ip6Config", dbus.ObjectPath(ip6Path))
	m.set(devicePath, managerName+".Device", "State", uint32(100))
	b := d.open()
	b.Features(ctx(t))
	within(t, b.DNSChanged(), "connected")
	quiet(t, b.DNSChanged(), "nothing has happened")

	for range 20 {
		r.changed(resolvedPath, resolvedName+".Manager", "DNS")
	}
	within(t, b.DNSChanged(), "resolved's DNS")
	// A value may come while another is taken, and the changes one by one where
	// the bus is slow.
	for done := false; !done; {
		select {
		case <-b.DNSChanged():
		case <-time.After(500 * time.Millisecond):
			done = true
		}
	}

	m.changed(ip6Path, managerName+".IP6Config", "Nameservers")
	within(t, b.DNSChanged(), "NetworkManager's servers")
	m.changed(devicePath, managerName+".Device", "Ip6Config")
	within(t, b.DNSChanged(), "NetworkManager's configuration")
	m.changed(devicePath, managerName+".Device", "State")
	r.changed(resolvedPath, resolvedName+".Manager", "CurrentDNSServer")
	quiet(t, b.DNSChanged(), "what does not matter")
}

func TestManagerChanges(t *testing.T) {
	d := startDaemon(t)
	m := d.serveManager()
	r := d.serveResolved()
	b := d.open()
	b.Features(ctx(t))
	quiet(t, b.ManagerChanged(), "nothing has happened")
	m.conn.Close()
	within(t, b.ManagerChanged(), "NetworkManager has gone")
	d.serveManager()
	within(t, b.ManagerChanged(), "NetworkManager is back")
	r.conn.Close()
	quiet(t, b.ManagerChanged(), "another service has gone")
}

func TestSleep(t *testing.T) {
	d := startDaemon(t)
	logind := d.serve(logindName, logindPath, logindName+".Manager", nil)
	b := d.open()
	b.Features(ctx(t))
	signal := func(c *dbus.Conn, sleeps any) {
		t.Helper()
		if err := c.Emit(logindPath, logindName+".Manager.PrepareForSleep", sleeps); err != nil {
			t.Fatal(err)
		}
	}
	signal(logind.conn, true)
	if !within(t, b.Sleep(), "sleep") {
		t.Error("false before sleep")
	}
	signal(logind.conn, false)
	if within(t, b.Sleep(), "wake up") {
		t.Error("true after sleep")
	}
	// Nobody has looked: only the latest counts.
	signal(logind.conn, true)
	signal(logind.conn, false)
	for n := 0; within(t, b.Sleep(), "wake up"); n++ {
		if n > 0 { // before the second signal has come
			t.Fatal("an old value")
		}
	}
	signal(logind.conn, "soon")
	quiet(t, b.Sleep(), "a string for a bool")

	// Somebody else says so, to everybody and to us alone.
	stranger := d.connect()
	signal(stranger, true)
	s, err := b.connection.connect(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	stranger.Send(&dbus.Message{
		Type: dbus.TypeSignal,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(s.conn.Names()[0]),
			dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath(logindPath)),
			dbus.FieldInterface:   dbus.MakeVariant(logindName + ".Manager"),
			dbus.FieldMember:      dbus.MakeVariant("PrepareForSleep"),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(true)),
		},
		Body: []any{true},
	}, nil)
	quiet(t, b.Sleep(), "a stranger's word")
}

func TestBusRestart(t *testing.T) {
	d := startDaemon(t)
	d.serveResolved()
	b := d.open()
	b.Features(ctx(t))
	within(t, b.DNSChanged(), "connected")
	before, err := b.connection.connect(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	d.stop()
	<-before.conn.Context().Done()
	if _, _, err := b.LinkDNS(ctx(t), linkIndex, linkName); !errors.Is(err, ErrNoBus) {
		t.Errorf("without a bus: %v", err)
	}
	d.start()
	within(t, b.DNSChanged(), "connected again, without being asked")
	logind := d.serve(logindName, logindPath, logindName+".Manager", nil)
	r := d.serveResolved()
	r.set(linkPath, resolvedName+".Link", "DNSEx", []serverEx{{10, bytesOf("2001:db8::53"), 0, ""}})
	within(t, b.DNSChanged(), "resolved is back")
	wantDNS(t, b, "systemd-resolved", "2001:db8::53")
	logind.conn.Emit(logindPath, logindName+".Manager.PrepareForSleep", true)
	within(t, b.Sleep(), "sleep, with the new connection")
}
