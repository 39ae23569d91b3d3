package shim

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FuzzMemory feeds what a program may have in its memory to everything that
// reads it: nothing panics, and a name is what its bytes say.
func FuzzMemory(f *testing.F) {
	f.Add(name{netip.MustParseAddrPort("198.51.100.7:80"), false}.bytes(), true)
	f.Add(name{netip.MustParseAddrPort("198.51.100.7:80"), true}.bytes(), false)
	f.Add(make([]byte, 56), true)
	f.Add([]byte{20, 0, 0, 0, 22, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, wide bool) {
		if n, ok := parseName(b); ok {
			if !n.Addr().Is4() {
				t.Errorf("%v is no IPv4 address", n)
			}
			if again, ok := parseName(n.bytes()); !ok || again != n {
				t.Errorf("%v becomes %v", n, again)
			}
		}
		size := 56
		if !wide {
			size = 28
		}
		if len(b) >= size {
			parseHeader(b[:size], wide)
		}
		if len(b) >= size {
			// As the memory of a program, which is this one.
			m := programMemory{tid: os.Getpid(), wide: wide}
			if h, err := m.header(uint64(uintptr(unsafe.Pointer(&b[0])))); err == nil {
				if data, err := m.gather(h); err == nil && len(data) > maxData || len(h.name) > maxName || len(h.iov) > maxSpans {
					t.Errorf("%d bytes, a name of %d, %d spans", len(data), len(h.name), len(h.iov))
				}
			}
			m.socketName(uint64(uintptr(unsafe.Pointer(&b[0]))), uint64(len(b)))
		}
		for _, s := range parseSpans(b, wide) {
			_ = s.at + s.size
		}
		isAddressRequest(b)
		readCloseOnExec(b)
		ports := map[socketKey]bool{}
		readPorts(ports, b, wide)
		listening(b, 7)
		if p, ok := parseSYN(b); ok && (!p.from.IsValid() || !p.to.IsValid()) {
			t.Errorf("%v", p)
		}
		parseExtendedError(b)
		eachControl(b, func(_, _ int32, data []byte) { _ = len(data) })
	})
}

// The relay is fed by the program, too.
func FuzzEcho(f *testing.F) {
	p := make([]byte, sizeofIPv4+sizeofICMP+4)
	putIPv4(p, hiddenIPv4, netip.MustParseAddr("203.0.113.5"), unix.IPPROTO_ICMP, len(p)-sizeofIPv4)
	p[sizeofIPv4] = icmpEchoRequest
	f.Add(p)
	f.Fuzz(func(t *testing.T, b []byte) {
		// Without a prefix nothing leaves.
		tab, _ := (Policy{Fallback: FallbackNever, Routes: []Route{{everything, netip.Prefix{}}}}).prepare()
		r := newRelay(tab)
		b = append([]byte(nil), b...)
		if len(b) >= sizeofIPv4 { // not to the host's own network
			copy(b[16:], []byte{203, 0, 113, 5})
		}
		forwardEcho(r, b)
		if len(r.flows.by) > 0 {
			t.Errorf("%d flows", len(r.flows.by))
		}
	})
}

// The number of a thread that has been killed may be that of another process.
func TestMemoryOfAnEndedThread(t *testing.T) {
	b := []byte("as it was")
	at := uint64(uintptr(unsafe.Pointer(&b[0])))
	still := false
	m := programMemory{tid: os.Getpid(), wide: true, still: func() bool { return still }}
	if err := m.write(at, []byte("changed  ")); err != unix.ESRCH || string(b) != "as it was" {
		t.Errorf("write: %v, %q", err, b)
	}
	if err := m.read(at, make([]byte, 4)); err != unix.ESRCH {
		t.Errorf("read: %v", err)
	}
	still = true
	got := make([]byte, 4)
	if err := m.write(at, []byte("it is")); err != nil || string(b) != "it is was" {
		t.Errorf("write: %v, %q", err, b)
	}
	if err := m.read(at, got); err != nil || string(got) != "it i" {
		t.Errorf("read: %v, %q", err, got)
	}
	if err := m.write(8, []byte("x")); err != unix.EFAULT {
		t.Errorf("write where nothing is: %v", err)
	}
}

func TestNames(t *testing.T) {
	six := make([]byte, maxName)
	binary.NativeEndian.PutUint16(six, unix.AF_INET6)
	six[8] = 0x20
	for _, c := range []struct {
		what string
		b    []byte
		want string // "" if it is not about IPv4
	}{
		{"sockaddr_in", []byte{2, 0, 0, 80, 198, 51, 100, 7, 0, 0, 0, 0, 0, 0, 0, 0}, "198.51.100.7:80"},
		{"short", []byte{2, 0, 0, 80, 198, 51, 100}, ""},
		{"IPv6", six, ""},
		{"Unix", make([]byte, 28), ""},
		{"mapped", name{netip.MustParseAddrPort("198.51.100.7:80"), true}.bytes(), "198.51.100.7:80"},
		{"mapped, without scope", name{netip.MustParseAddrPort("198.51.100.7:80"), true}.bytes()[:24], "198.51.100.7:80"},
		{"mapped, short", name{netip.MustParseAddrPort("198.51.100.7:80"), true}.bytes()[:23], ""},
	} {
		n, ok := parseName(c.b)
		if ok != (c.want != "") || ok && n.AddrPort.String() != c.want {
			t.Errorf("%s: %v, %v, want %q", c.what, n, ok, c.want)
		}
	}
}

func TestAddressRequestIsGlibcs(t *testing.T) {
	glibc := []byte{20, 0, 0, 0, unix.RTM_GETADDR, 0, 1, 3, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0}
	if !isAddressRequest(glibc) {
		t.Error("glibc's request is not recognised")
	}
	for _, change := range []func([]byte) []byte{
		func(b []byte) []byte { b[4] = unix.RTM_GETLINK; return b },
		func(b []byte) []byte { b[16] = unix.AF_INET; return b },
		func(b []byte) []byte { b[0] = 17; return b[:17] }, // Go's
		func(b []byte) []byte { b[6] = 1; b[7] = 0; return b },
	} {
		if b := change(append([]byte(nil), glibc...)); isAddressRequest(b) {
			t.Errorf("% x is taken for glibc's", b)
		}
	}
}

// The tables of what a program brings about are bounded.
func TestTablesAreBounded(t *testing.T) {
	var s sockets
	for i := range uint64(2 * maxReplaced) {
		s.set(i, replaced{})
		s.get(0) // is used all the time, and stays
	}
	if len(s.by) > maxReplaced || s.order.Len() != len(s.by) {
		t.Errorf("%d sockets, %d in order", len(s.by), s.order.Len())
	}
	if _, ok := s.get(0); !ok {
		t.Error("a socket in use was forgotten")
	}
	if s.lost != maxReplaced {
		t.Errorf("%d forgotten, want %d", s.lost, maxReplaced)
	}
	var r recent
	for i := range uint64(2 * maxRecent) {
		r.add(i)
	}
	if len(r.has) > maxRecent || r.contains(0) || !r.contains(2*maxRecent-1) {
		t.Errorf("%d cookies", len(r.has))
	}
	if !r.mayContain(0) || new(recent).mayContain(0) {
		t.Error("a set that has forgotten some cannot tell what it never had")
	}
	var u unfinishedSwaps
	for i := range 2 * maxUnfinished {
		u.add(&unfinishedSwap{tgid: i})
	}
	if len(u.all) > maxUnfinished || len(u.of(0)) != 0 || len(u.of(2*maxUnfinished-1)) != 1 {
		t.Errorf("%d swaps", len(u.all))
	}
	v := voice{channel: &channel{-1}}
	for i := range 2 * maxSaid {
		v.say(string(rune('a'+i)), "x")
	}
	if len(v.said) > maxSaid+1 {
		t.Errorf("%d messages", len(v.said))
	}
}

// Connections that wait for a restarted call are bounded, given back once, and
// closed when it does not come.
func TestStartedConnectsAreBoundedAndEnd(t *testing.T) {
	var s startedConnects
	to := netip.MustParseAddrPort("192.0.2.7:7")
	open := func(old uint64) started {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := started{fd: fd, cookie: old + 1, peer: to}
		s.put(old, c)
		return c
	}
	first := open(1)
	for i := range uint64(2 * maxStarted) {
		open(i + 1)
	}
	s.mu.Lock()
	if len(s.by) > maxStarted {
		t.Errorf("%d connections", len(s.by))
	}
	s.mu.Unlock()
	if _, ok := s.take(1, netip.MustParseAddrPort("192.0.2.8:7")); ok {
		t.Error("a connection to another peer is given out")
	}
	if c, ok := s.take(1, to); !ok || c.fd != first.fd {
		t.Errorf("%v, %v", c, ok)
	}
	if _, ok := s.take(1, to); ok {
		t.Error("a connection is given out twice")
	}
	unix.Close(first.fd)
	for left := 1; left > 0; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		left = len(s.by)
		s.mu.Unlock()
	}
}

// A flow that has been idle for longest goes when there are too many.
func TestRelayFlowsAreBounded(t *testing.T) {
	tab, _ := (Policy{}).prepare()
	r := newRelay(tab)
	defer func() {
		for _, f := range r.flows.by {
			unix.Close(f.fd)
		}
	}()
	lo := netip.MustParseAddr("127.0.0.1")
	key := func(i int) flowKey {
		return flowKey{flowHost, netip.AddrPortFrom(hiddenIPv4, uint16(i+1)), netip.AddrPortFrom(lo, 9)}
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); limit.Cur < 2*maxFlows {
		t.Skipf("needs %d descriptors", 2*maxFlows)
	}
	for i := range maxFlows {
		if f := r.flows.get(key(i)); f == nil {
			t.Fatalf("flow %d cannot be opened", i)
		} else {
			f.used.Store(int64(i + 10))
		}
	}
	if r.flows.get(key(maxFlows)) == nil || len(r.flows.by) > maxFlows || r.flows.by[key(0)] != nil || r.flows.by[key(1)] == nil {
		t.Errorf("%d flows", len(r.flows.by))
	}
	if n := r.flows.drops[dropEvicted].Load(); n != 1 {
		t.Errorf("%d evicted", n)
	}
	// What has no socket any more goes.
	r.flows.sweep(map[socketKey]bool{{false, 3}: true}, r.flows.by[key(2)].born.Add(2*lookEvery))
	if len(r.flows.by) != 1 || r.flows.by[key(2)] == nil {
		t.Errorf("%d flows are left", len(r.flows.by))
	}
}

func TestReadPorts(t *testing.T) {
	const table = "  sl  local_address rem_address   st tx_queue rx_queue\n" +
		" 27: 010000C0:D431 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 14 2 0 0\n" +
		" 28: 00000000000000000000000001000000:0035 0:0 0A 0 0\n"
	got := map[socketKey]bool{}
	readPorts(got, []byte(table), false)
	if len(got) != 2 || !got[socketKey{false, 0xd431}] || !got[socketKey{false, 0x35}] {
		t.Errorf("%v", got)
	}
	if !listening([]byte(table), 0x35) || listening([]byte(table), 0xd431) {
		t.Error("listening")
	}
}

func TestCloseOnExec(t *testing.T) {
	if !readCloseOnExec([]byte("pos:\t0\nflags:\t02000002\nmnt_id:\t9\n")) || readCloseOnExec([]byte("pos:\t0\nflags:\t02\n")) || readCloseOnExec(nil) {
		t.Error("flags")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if !closesOnExec(os.Getpid(), int(null.Fd())) {
		t.Error("a descriptor of ours")
	}
}

func TestSetuidProgramsAreReported(t *testing.T) {
	path := t.TempDir() + "/program"
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{
		0o755: "", 0o755 | os.ModeSetuid: "setuid", 0o755 | os.ModeSetgid: "setgid",
		0o745 | os.ModeSetgid: "", // mandatory locking
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got := gainsNothing(path, os.Geteuid()+1, os.Getegid()+1); strings.Contains(got, "set") != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%v: %q", mode, got)
		}
		if got := gainsNothing(path, os.Geteuid(), os.Getegid()); got != "" {
			t.Errorf("%v, one's own: %q", mode, got)
		}
	}
}
