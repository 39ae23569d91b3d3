package resolvconf

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, text, servers, stubs string }{
		{"usual", "search example\nnameserver 2001:db8::53\nnameserver 192.0.2.53\noptions edns0\n", "2001:db8::53 192.0.2.53", ""},
		{"zone, tabs, trailing words, CRLF", "nameserver\tfe80::1%wlan0 # router\r\nnameserver  2001:db8::53;x\r\nnameserver 2001:db8::54 ; y\n", "fe80::1%wlan0 2001:db8::54", ""},
		{"no newline at the end", "nameserver 2001:db8::53", "2001:db8::53", ""},
		{"comments", "#nameserver 2001:db8::1\n;nameserver 2001:db8::2\n# nameserver 2001:db8::3\n", "", ""},
		{"stubs", "nameserver 127.0.0.53\nnameserver ::1\nnameserver 0.0.0.0\nnameserver 127.0.0.1\n", "", "127.0.0.53 ::1 127.0.0.1"},
		{"stub and server", "nameserver 127.0.0.1\nnameserver 2001:db8::53\n", "2001:db8::53", "127.0.0.1"},
		{"unspecified", "nameserver ::\n", "", "::1"},
		{"again", "nameserver 2001:db8::53\nnameserver 2001:DB8:0::53\n", "2001:db8::53", ""},
		{"IPv4 in disguise", "nameserver ::ffff:192.0.2.53\n", "192.0.2.53", ""},
		{"garbage", "nameserver\nnameserver \nnameservers 2001:db8::1\nnameserver2001:db8::1\n nameserver 2001:db8::1\nnameserver 300.1.1.1\nnameserver ff02::fb\nnameserver dns.example\n\x00\xff\n", "", ""},
		{"empty", "", "", ""},
	} {
		got := parse([]byte(c.text))
		if join(got.Servers) != c.servers || join(got.Stubs) != c.stubs {
			t.Errorf("%s: %v, %v", c.name, got.Servers, got.Stubs)
		}
	}
}

func join(a []netip.Addr) string { return strings.Trim(fmt.Sprint(a), "[]") }

func TestBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	var b bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&b, "nameserver 2001:db8::%x\n", i+1)
	}
	if got := parse(b.Bytes()); len(got.Servers) != maxServers || got.Servers[0] != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("%d servers", len(got.Servers))
	}

	// The line at the end of what is read is not taken for a shorter address.
	b.Reset()
	b.WriteString("nameserver 2001:db8::9\n")
	last := "nameserver 2001:db8::12"
	b.WriteString("#" + strings.Repeat("x", maxBytes-b.Len()-len(last)-2+1) + "\n" + last + "3\n")
	b.WriteString(strings.Repeat("nameserver 2001:db8::4\n", 100_000))
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil || join(got.Servers) != "2001:db8::9" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir, "/dev/zero", filepath.Join(dir, "missing")} {
		if c, err := Read(path); err == nil {
			t.Errorf("%s: %v", path, c)
		}
	}
}

func TestSystem(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stub := write("stub", "nameserver 127.0.0.53\n")
	plain := write("plain", "nameserver 2001:db8::1\n")
	mixed := write("mixed", "nameserver 127.0.0.1\nnameserver 2001:db8::1\n")
	empty := write("empty", "# nobody\n")
	real := write("real", "nameserver 2001:db8::53\nnameserver 192.0.2.53\n")
	missing := filepath.Join(dir, "missing")
	for _, c := range []struct {
		name, etc string
		upstream  []string
		want      Config
	}{
		{"plain", plain, []string{real}, Config{Path: plain, Servers: addrs("2001:db8::1")}},
		{"stub", stub, []string{real}, Config{Path: real, Servers: addrs("2001:db8::53", "192.0.2.53"), Stubs: addrs("127.0.0.53")}},
		{"the second one", stub, []string{missing, stub, real}, Config{Path: real, Servers: addrs("2001:db8::53", "192.0.2.53"), Stubs: addrs("127.0.0.53")}},
		{"nobody knows", stub, []string{missing, empty}, Config{Path: stub, Stubs: addrs("127.0.0.53")}},
		{"stub and server", mixed, []string{real}, Config{Path: mixed, Servers: addrs("2001:db8::1"), Stubs: addrs("127.0.0.1")}},
		{"empty", empty, []string{real}, Config{Path: empty}},
	} {
		got, err := system(c.etc, c.upstream)
		if err != nil || got.Path != c.want.Path || !slices.Equal(got.Servers, c.want.Servers) || !slices.Equal(got.Stubs, c.want.Stubs) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
	if _, err := system(missing, []string{real}); err == nil {
		t.Error("no resolv.conf is no error")
	}
}

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}
