package bus

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

type serverEx struct {
	Family  int32
	Address []byte
	Port    uint16
	Name    string
}

type server struct {
	Family  int32
	Address []byte
}

func bytesOf(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func wantDNS(t *testing.T, b *Bus, source string, servers ...string) {
	t.Helper()
	got, from, err := b.LinkDNS(ctx(t), linkIndex, linkName)
	if err != nil || from != source || !slices.Equal(got, addrs(servers...)) {
		t.Errorf("LinkDNS = %v, %q, %v, want %v, %q", got, from, err, servers, source)
	}
}

func TestServersOfResolved(t *testing.T) {
	d := startDaemon(t)
	r := d.serveResolved()
	r.set(linkPath, resolvedName+".Link", "DNSEx", []serverEx{
		{2, bytesOf("192.0.2.53"), 0, ""},
		{10, bytesOf("2001:db8::53"), 0, ""},
		{10, bytesOf("fe80::1"), 53, "router.example"},
		{10, bytesOf("2001:db8::853"), 853, "dot.example"}, // not plain DNS
		{10, bytesOf("2001:db8::53"), 53, ""},              // again
		{10, bytesOf("::1"), 0, ""},
		{10, []byte{1, 2, 3}, 0, ""},
	})
	wantDNS(t, d.open(), "systemd-resolved", "2001:db8::53", "fe80::1%wlan0")
}

func TestServersOfOldResolved(t *testing.T) {
	d := startDaemon(t)
	r := d.serveResolved()
	r.set(linkPath, resolvedName+".Link", "DNS", []server{{2, bytesOf("192.0.2.53")}, {10, bytesOf("2001:db8::53")}})
	wantDNS(t, d.open(), "systemd-resolved", "2001:db8::53")
}

// A resolved that has been told nothing, as NetworkManager with dns=none leaves
// it, does not hide what NetworkManager knows.
func TestServersOfNetworkManager(t *testing.T) {
	d := startDaemon(t)
	r := d.serveResolved()
	r.set(linkPath, resolvedName+".Link", "DNSEx", []serverEx{{2, bytesOf("192.0.2.53"), 0, ""}})
	m := d.serveManager()
	m.set(devicePath, managerName+".Device", "Ip6Config", dbus.ObjectPath(ip6Path))
	m.set(ip6Path, managerName+".IP6Config", "Nameservers", [][]byte{bytesOf("2001:db8::53"), bytesOf("fe80::1"), {}})
	b := d.open()
	wantDNS(t, b, "NetworkManager", "2001:db8::53", "fe80::1%wlan0")

	m.set(ip6Path, managerName+".IP6Config", "NameserverData", []map[string]dbus.Variant{
		{"address": dbus.MakeVariant("2001:db8::54")}, {"address": dbus.MakeVariant(7)}, {},
	})
	wantDNS(t, b, "NetworkManager", "2001:db8::54")

	m.set(devicePath, managerName+".Device", "Ip6Config", dbus.ObjectPath("/"))
	wantDNS(t, b, "NetworkManager")
	if _, _, err := b.LinkDNS(ctx(t), 99, "eth9"); !errors.Is(err, ErrNotManaged) {
		t.Errorf("a link that nobody knows: %v", err)
	}
}

func TestTooManyServers(t *testing.T) {
	d := startDaemon(t)
	r := d.serveResolved()
	var many []serverEx
	for i := range 1000 {
		many = append(many, serverEx{10, append(bytesOf("2001:db8::")[:14], byte(i>>8), byte(i)), 0, ""})
	}
	r.set(linkPath, resolvedName+".Link", "DNSEx", many[1:])
	got, _, err := d.open().LinkDNS(ctx(t), linkIndex, linkName)
	if err != nil || len(got) != maxServers || got[0] != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("%d servers, %v", len(got), err)
	}
}

// Whatever type a property has, it is an error and no panic.
func TestWrongTypes(t *testing.T) {
	d := startDaemon(t)
	r := d.serveResolved()
	m := d.serveManager()
	b := d.open()
	for _, v := range []any{
		"text", int32(-1), true, 1.5, []string{"a"}, []byte{1}, [][]string{{"a"}}, map[string]string{"a": "b"},
		dbus.ObjectPath("/a"), dbus.MakeVariant(dbus.MakeVariant("x")), []struct{ A string }{{"x"}}, []server{{10, bytesOf("2001:db8::1")}},
		[]dbus.Variant{dbus.MakeVariant(1)}, map[string]dbus.Variant{"address": dbus.MakeVariant([]string{"x"})}, struct{ A, B int32 }{1, 2},
	} {
		r.set(linkPath, resolvedName+".Link", "DNSEx", v)
		m.set(devicePath, managerName+".Device", "Ip6Config", v)
		m.set(devicePath, managerName+".Device", "Ip4Config", v)
		m.set(devicePath, managerName+".Device", "Dhcp4Config", v)
		m.set("/a", managerName+".IP6Config", "Nameservers", v)
		m.set("/a", managerName+".IP4Config", "AddressData", v)
		m.set("/a", managerName+".DHCP4Config", "Options", v)
		m.serveSettings(map[string]any{"clat": v, "dhcp-ipv6-only-preferred": v})
		if got, _, err := b.LinkDNS(ctx(t), linkIndex, linkName); len(got) > 0 {
			t.Errorf("%T: %v, %v", v, got, err)
		}
		if active, why, err := b.NMCLAT(ctx(t), linkName); active || why != "" {
			t.Errorf("%T: %q, %v", v, why, err)
		}
		if o, err := b.Option108(ctx(t), linkIndex, linkName); o.Seen || o.Likely {
			t.Errorf("%T: %v, %v", v, o, err)
		}
	}
	d.serve(resolvedName, resolvedPath, resolvedName+".Manager", map[string]any{
		"GetLink": func(int32) (string, *dbus.Error) { return "no path", nil },
	})
	if _, _, err := b.LinkDNS(ctx(t), linkIndex, "eth9"); err == nil {
		t.Errorf("a string for a path: %v", err)
	}
}

// Asking must not start NetworkManager on a machine that is run without it.
func TestNothingIsStarted(t *testing.T) {
	d := startDaemon(t)
	started := filepath.Join(d.dir, "started")
	for _, name := range []string{resolvedName, managerName, networkdName, logindName} {
		text := "[D-BUS Service]\nName=" + name + "\nExec=/usr/bin/touch " + started + "\n"
		if err := os.WriteFile(filepath.Join(d.dir, name+".service"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d.stop()
	d.start()
	b := d.open()
	_, _, err := b.LinkDNS(ctx(t), linkIndex, linkName)
	if !errors.Is(err, ErrNotRunning) || errors.Is(err, ErrNoBus) {
		t.Errorf("LinkDNS: %v", err)
	}
	if _, _, err := b.NMCLAT(ctx(t), linkName); !errors.Is(err, ErrNotRunning) {
		t.Errorf("NMCLAT: %v", err)
	}
	if _, err := b.Option108(ctx(t), linkIndex, linkName); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Option108: %v", err)
	}
	// Behind our back too: a call that slips through after the service has gone.
	s, err := b.connection.connect(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.call(ctx(t), managerName, managerPath, managerName+".GetDevices", nil); !is(err, "org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.ServiceUnknown") {
		t.Errorf("a call to nobody: %v", err)
	}
	time.Sleep(200 * time.Millisecond)
	if _, err := os.Stat(started); err == nil {
		t.Error("a service has been started for being asked")
	}
}
