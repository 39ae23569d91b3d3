package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
	"tnat64d/pref64"
)

var (
	fe80 = netip.MustParseAddr("fe80::1")
	home = networkID{
		Link: "wlan0", Index: 3, CarrierChanges: 2,
		Routers:  []router{{fe80, "02:00:00:00:00:01"}},
		Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/64"), netip.MustParsePrefix("fd00::/64")},
	}
)

// TestSameNetwork tells the network of a former process from others.
func TestSameNetwork(t *testing.T) {
	for _, c := range []struct {
		name           string
		change         func(was, is *networkID)
		stopped, crash error
	}{
		{"the same", func(_, _ *networkID) {}, nil, nil},
		{"another carrier", func(_, is *networkID) { is.CarrierChanges = 4 }, nil, errReattached},
		{"plugged in again", func(_, is *networkID) { is.Index = 9 }, nil, errReattached},
		{"another router", func(_, is *networkID) { is.Routers = []router{{netip.MustParseAddr("fe80::2"), "02:00:00:00:00:01"}} }, errRouter, errRouter},
		{"another router with the same address", func(_, is *networkID) { is.Routers = []router{{fe80, "02:00:00:00:00:02"}} }, errRouter, errRouter},
		{"one router of two", func(was, _ *networkID) {
			was.Routers = []router{{netip.MustParseAddr("fe80::2"), ""}, {fe80, "02:00:00:00:00:01"}}
		}, nil, nil},
		{"a router that the kernel does not know now", func(_, is *networkID) { is.Routers = []router{{fe80, ""}} }, nil, nil},
		{"the same, on another carrier", func(_, is *networkID) { is.Routers, is.CarrierChanges = []router{{fe80, ""}}, 4 }, errReattached, errReattached},
		{"another prefix", func(_, is *networkID) { is.Prefixes = []netip.Prefix{netip.MustParsePrefix("2001:db8:2::/64")} }, errPrefix, errPrefix},
		{"one prefix of two", func(_, is *networkID) { is.Prefixes = is.Prefixes[:1] }, nil, nil},
		{"no route yet", func(_, is *networkID) { is.Routers = nil }, errUndecided, errUndecided},
		{"no address yet", func(_, is *networkID) { is.Prefixes = nil }, errUndecided, errUndecided},
		{"a point-to-point link", func(was, is *networkID) { was.Routers, is.Routers = nil, nil }, nil, nil},
		{"a point-to-point link, connected anew", func(was, is *networkID) { was.Routers, is.Routers, is.Index = nil, nil, 9 }, errReattached, errReattached},
	} {
		t.Run(c.name, func(t *testing.T) {
			was, is := home, home
			c.change(&was, &is)
			if err := was.same(is, false); !errors.Is(err, c.stopped) {
				t.Errorf("after a stop: %v, want %v", err, c.stopped)
			}
			if err := was.same(is, true); !errors.Is(err, c.crash) {
				t.Errorf("after a crash: %v, want %v", err, c.crash)
			}
		})
	}
}

const aBoot = "5bb23aa4-0e8f-4d6f-9f0f-4f8f6c8a3c11"

// aNote was written 20 s before second 100, when the process ended.
func aNote() note {
	return note{
		Network: home, PREF64: netip.MustParsePrefix("64:ff9b::/96"), Source: "ra", Router: fe80, Default: true,
		Ends: bootTime(600 * time.Second), Left: bootTime(80 * time.Second),
	}
}

// TestParseMemory reads the file that a former process has written, or somebody else.
func TestParseMemory(t *testing.T) {
	now := bootTime(100 * time.Second)
	good := func(change func(n *note)) string {
		n := aNote()
		change(&n)
		b, err := json.Marshal(memoryFile{aBoot, []note{n}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range []struct {
		name, text string
		notes      int
		err        string
	}{
		{"what we write", good(func(*note) {}), 1, ""},
		{"a crash", good(func(n *note) { n.Left = 0 }), 1, ""},
		{"left too long ago", good(func(n *note) { n.Left = bootTime(39 * time.Second) }), 0, ""},
		{"a lifetime that has passed", good(func(n *note) { n.Ends = now }), 0, ""},
		{"another boot", strings.Replace(good(func(*note) {}), aBoot, "x", 1), 0, "another boot"},
		{"ended in the future", good(func(n *note) { n.Left = now + 1 }), 0, "in the future"},
		{"ended before the boot", good(func(n *note) { n.Left = -1 }), 0, "in the future"},
		{"a lifetime that none has", good(func(n *note) { n.Ends = now + bootTime(65529*time.Second) }), 0, "lifetime"},
		{"the longest number", good(func(n *note) { n.Ends = 1<<63 - 1 }), 0, "lifetime"},
		{"a prefix that none has", good(func(n *note) { n.PREF64 = netip.MustParsePrefix("::/0") }), 0, "wlan0: invalid PREF64"},
		{"an unknown source", good(func(n *note) { n.Source = "static" }), 0, "neither router advertisements nor DNS"},
		{"a link without name", good(func(n *note) { n.Network.Link = "" }), 0, "no network"},
		{"a long name", good(func(n *note) { n.Network.Link = strings.Repeat("x", 16) }), 0, "no network"},
		{"many routers", good(func(n *note) { n.Network.Routers = make([]router, 17) }), 0, "no network"},
		{"a key that we do not write", `{"boot":"` + aBoot + `","links":[],"x":1}`, 0, "unknown field"},
		{"something behind it", good(func(*note) {}) + "{}", 0, "something follows"},
		{"cut short", good(func(*note) {})[:100], 0, "not what tnat64d writes"},
		{"nothing", "", 0, "not what tnat64d writes"},
		{"noise", "\x00\xff\x7f\n", 0, "not what tnat64d writes"},
		{"deep", strings.Repeat("[", 60000), 0, "not what tnat64d writes"},
		{"many links", `{"boot":"` + aBoot + `","links":[` + strings.Repeat("{},", 16) + `{}]}`, 0, "17 links"},
	} {
		t.Run(c.name, func(t *testing.T) {
			notes, err := parseMemory([]byte(c.text), aBoot, now)
			if len(notes) != c.notes || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v, %v", notes, err)
			}
		})
	}
}

// FuzzParseMemory: whatever is in the file, what is taken from it passes Check.
func FuzzParseMemory(f *testing.F) {
	b, err := json.Marshal(memoryFile{aBoot, []note{aNote()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		now := bootTime(100 * time.Second)
		notes, err := parseMemory(b, aBoot, now)
		if err != nil && len(notes) > 0 || len(notes) > maxLinks {
			t.Errorf("%d notes, %v", len(notes), err)
		}
		for _, n := range notes {
			if err := n.remembered(now).Check(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestReadOwn reads no file that others can have written.
func TestReadOwn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pref64-1")
	for _, c := range []struct {
		name string
		make func() error
		want error
	}{
		{"absent", func() error { return nil }, os.ErrNotExist},
		{"ours", func() error { return os.WriteFile(path, []byte("x"), 0o600) }, nil},
		{"writable for the group", func() error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o620)) }, errNotOwn},
		{"writable for everybody", func() error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o602)) }, errNotOwn},
		{"another user's", func() error {
			if os.Geteuid() != 0 {
				return nil
			}
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, 65534, 65534))
		}, errNotOwn},
		{"a symbolic link", func() error { return os.Symlink("/etc/passwd", path) }, errNoFile},
		{"a directory", func() error { return os.Mkdir(path, 0o700) }, errNoFile},
		{"a FIFO", func() error { return unix.Mkfifo(path, 0o600) }, errNoFile},
		{"long", func() error { return os.WriteFile(path, make([]byte, maxMemory+1), 0o600) }, errLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "another user's" && os.Geteuid() != 0 {
				t.Skip("needs root: gives a file to another user")
			}
			defer os.RemoveAll(path)
			if err := c.make(); err != nil {
				t.Fatal(err)
			}
			if _, err := readOwn(path); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestMemory passes what one process has in use to the next one.
func TestMemory(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", t.TempDir())
	log := slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil))
	linkLayer := func(int, netip.Addr) string { return "02:00:00:00:00:01" }
	start := func(n networkID) (*memory, map[int]*discovery) {
		l := &discovery{link: plan.Uplink{Name: n.Link, Index: n.Index}, network: n}
		l.finder = pref64.NewFinder(pref64.Options{Interface: n.Index, Name: n.Link, RA: true, Log: log})
		t.Cleanup(l.finder.Close)
		return openMemory(linkLayer, log), map[int]*discovery{n.Index: l}
	}
	first, links := start(home)
	links[3].finder.Restore(aNote().remembered(bootTime(100 * time.Second)))
	if wait := first.keep(links); wait < time.Minute {
		t.Errorf("kept for %v", wait)
	}
	// It crashes. The next one is on the same network, and ends.
	second, links := start(home)
	second.restore(links[3])
	if o, ok := links[3].finder.Current(); !ok || !o.Remembered || time.Until(o.Expires) > 500*time.Second {
		t.Errorf("%+v", o)
	}
	openMemory(nil, log).close() // as tnat64d -cleanup does
	if m := openMemory(nil, log); len(m.former) != 1 || m.former[0].Left == 0 {
		t.Errorf("%+v", m.former)
	}
	second.leave(links)
	// The one after that sees no route yet, and ends too.
	third, links := start(networkID{Link: "wlan0", Index: 3})
	third.restore(links[3])
	third.leave(links)
	// The next one is on another network, and nothing is left for the last one.
	fourth, links := start(networkID{Link: "wlan0", Index: 3, Routers: home.Routers, Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:2::/64")}})
	if len(fourth.former) != 1 || fourth.former[0].Left == 0 {
		t.Errorf("%+v", fourth.former)
	}
	fourth.restore(links[3])
	if o, ok := links[3].finder.Current(); ok {
		t.Errorf("%+v", o)
	}
	fourth.leave(links)
	if _, err := os.Stat(fourth.file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a file still: %v", err)
	}
}
