package plat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/regularfile"
	"tnat64d/siit"
)

func anyone(netip.Addr) bool { return true }

func newTable(t *testing.T, c TableConfig) *Table {
	t.Helper()
	if c.Clients == nil {
		c.Clients = anyone
	}
	if c.MaxPer64 == 0 {
		c.MaxPer64 = 1 << 20
	}
	if c.Idle == 0 {
		c.Idle = time.Hour
	}
	table, err := NewTable(c)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func host(n int) netip.Addr {
	a := netip.MustParseAddr("2001:db8::").As16()
	binary.BigEndian.PutUint32(a[12:], uint32(n))
	return netip.AddrFrom16(a)
}

func (t *Table) ipv4(a netip.Addr) netip.Addr {
	n, ok := t.To4(halves(a.As16()))
	if !ok {
		return netip.Addr{}
	}
	return address4(n)
}

func TestTableGivesEveryAddressOnce(t *testing.T) {
	static := siit.Pair{IPv4: netip.MustParseAddr("192.0.2.7"), IPv6: netip.MustParseAddr("2001:db8:5::7")}
	table := newTable(t, TableConfig{Pool: netip.MustParsePrefix("192.0.2.0/28"), Static: []siit.Pair{static}})
	seen := map[netip.Addr]netip.Addr{static.IPv4: static.IPv6}
	for n := range 12 { // 16 without network, own, broadcast and the static one
		if r := table.Admit(host(n)); r != siit.None {
			t.Fatalf("host %d gets none: %s", n, r)
		}
		a := table.ipv4(host(n))
		if other, taken := seen[a]; taken || !table.config.Pool.Contains(a) {
			t.Errorf("host %d gets %s, which %s has", n, a, other)
		}
		seen[a] = host(n)
		if hi, lo, ok := table.To6(number(a)); !ok || netip.AddrFrom16(join(hi, lo)) != host(n) {
			t.Errorf("%s leads to %s", a, netip.AddrFrom16(join(hi, lo)))
		}
	}
	for _, never := range []string{"192.0.2.0", "192.0.2.1", "192.0.2.15"} {
		if _, taken := seen[netip.MustParseAddr(never)]; taken {
			t.Errorf("%s was given", never)
		}
	}
	if r := table.Admit(host(99)); r != siit.PoolExhausted {
		t.Errorf("one more host: %s", r)
	}
	if table.pool.taken != 13 {
		t.Errorf("%d of 13 addresses are taken, so that every other host costs a search", table.pool.taken)
	}
	if s := table.Stats(); s.Dynamic != 12 || s.Static != 1 || s.Refused[siit.PoolExhausted] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestTableLimits(t *testing.T) {
	client := netip.MustParsePrefix("2001:db8::/32")
	table := newTable(t, TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/16"), MaxPer64: 3, Clients: client.Contains})
	for n := range 3 {
		if r := table.Admit(host(n)); r != siit.None {
			t.Fatal(r)
		}
	}
	if r := table.Admit(host(3)); r != siit.TooManyMaps {
		t.Errorf("a fourth host of the /64: %s", r)
	}
	if r := table.Admit(netip.MustParseAddr("2001:db8:1::1")); r != siit.None {
		t.Errorf("a host of another /64: %s", r)
	}
	if r := table.Admit(netip.MustParseAddr("2001:db9::1")); r != siit.NotAClient {
		t.Errorf("a stranger: %s", r)
	}
}

func TestTableIsStable(t *testing.T) {
	pool := netip.MustParsePrefix("10.0.0.0/16")
	one, other := newTable(t, TableConfig{Pool: pool}), newTable(t, TableConfig{Pool: pool})
	for n := range 50 {
		one.Admit(host(n))
		other.Admit(host(49 - n))
	}
	same := 0
	for n := range 50 {
		if one.ipv4(host(n)) == other.ipv4(host(n)) {
			same++
		}
	}
	if same < 48 {
		t.Errorf("%d of 50 hosts have the same address whatever the order they come in", same)
	}
}

func TestSweep(t *testing.T) {
	allowed := true
	static := siit.Pair{IPv4: netip.MustParseAddr("10.0.0.9"), IPv6: netip.MustParseAddr("2001:db8:5::7")}
	table := newTable(t, TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/24"), Static: []siit.Pair{static}, Clients: func(netip.Addr) bool { return allowed }})
	start := time.Now()
	table.Admit(host(1))
	table.Admit(host(2))
	table.Sweep(start)
	table.ipv4(host(1)) // a packet
	if n := table.Sweep(start.Add(59 * time.Minute)); n != 0 {
		t.Errorf("%d maps are taken back too early", n)
	}
	if n := table.Sweep(start.Add(61 * time.Minute)); n != 1 || table.ipv4(host(2)).IsValid() || !table.ipv4(host(1)).IsValid() {
		t.Errorf("%d maps are taken back, want that of the silent host", n)
	}
	allowed = false
	if n := table.Sweep(start.Add(62 * time.Minute)); n != 1 || table.ipv4(static.IPv6) != static.IPv4 {
		t.Errorf("%d maps are taken back of hosts that are no clients any more; static: %s", n, table.ipv4(static.IPv6))
	}
	if s := table.Stats(); s.Dynamic != 0 || len(table.per64) != 0 {
		t.Errorf("%+v, %d /64s", s, len(table.per64))
	}
}

// A removed address is given again only once its connections have ended.
func TestReuse(t *testing.T) {
	table := newTable(t, TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/30")}) // one address
	now := time.Now()
	if r := table.Admit(host(1)); r != siit.None {
		t.Fatal(r)
	}
	table.Sweep(now.Add(3 * time.Hour))
	for range 2 {
		if r := table.Admit(host(2)); r != siit.PoolExhausted {
			t.Errorf("the address is given at once: %v", r)
		}
	}
	removed := table.pool.lost()
	if len(removed) != 1 || removed[0].String() != "10.0.0.2" {
		t.Fatalf("removed are %v", removed)
	}
	table.pool.reuse(removed)
	table.pool.reuse(removed)
	if r := table.Admit(host(2)); r != siit.None || len(table.pool.lost()) != 0 || table.pool.taken != 1 {
		t.Errorf("the address is not given again: %v, %d taken", r, table.pool.taken)
	}
}

// The file of maps is written again after a failure, and says when hosts were
// last known to send.
func TestSaving(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	table := newTable(t, TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/24")})
	file := mapsFile{path: filepath.Join(dir, "maps"), table: table, log: slog.New(slog.DiscardHandler)}
	table.Admit(host(1))
	if first, second := file.writeIf(), file.writeIf(); first != time.Second || second != 2*time.Second {
		t.Errorf("retries come after %v and %v", first, second)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file.writeIf()
	if loaded, _, err := load(newTable(t, TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/24")}), file.path, time.Now()); loaded != 1 || err != nil {
		t.Errorf("%d maps after the retry, %v", loaded, err)
	}
	// A map that is there for long is not idle while its host sends.
	later := time.Now().Add(10 * time.Hour)
	table.ipv4(host(1)) // a packet
	if err := file.write(later); err != nil {
		t.Fatal(err)
	}
	if loaded, _, _ := load(newTable(t, TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/24")}), file.path, later.Add(time.Minute)); loaded != 1 {
		t.Error("the host has lost its map")
	}
}

// A pipe in the place of the file of maps is not waited for. The next write
// replaces it.
func TestStoreIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "maps")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	table := newTable(t, TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/24")})
	if _, _, err := load(table, path, time.Now()); !errors.Is(err, regularfile.ErrNotRegular) {
		t.Errorf("load: %v", err)
	}
	if err := (&mapsFile{path: path, table: table}).write(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := load(table, path, time.Now()); err != nil {
		t.Errorf("load what was written: %v", err)
	}
}

// load reads a file of maps into a table.
func load(table *Table, path string, now time.Time) (loaded, left int, err error) {
	return (&mapsFile{path: path, table: table}).load(now)
}

func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "maps")
	c := TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/24")}
	table := newTable(t, c)
	for n := range 20 {
		table.Admit(host(n))
	}
	if err := (&mapsFile{path: path, table: table}).write(time.Now()); err != nil {
		t.Fatal(err)
	}
	again := newTable(t, c)
	if loaded, left, err := load(again, path, time.Now()); loaded != 20 || left != 0 || err != nil {
		t.Errorf("%d loaded, %d left, %v", loaded, left, err)
	}
	for n := range 20 {
		if was, is := table.ipv4(host(n)), again.ipv4(host(n)); was != is {
			t.Errorf("host %d had %s and has %s", n, was, is)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if loaded, left, _ := load(newTable(t, c), path, time.Now().Add(2*time.Hour)); loaded != 0 || left != 20 {
		t.Errorf("after the idle time %d are loaded and %d left", loaded, left)
	}
	if loaded, _, err := load(newTable(t, c), path+"-none", time.Now()); loaded != 0 || err != nil {
		t.Errorf("without a file: %d, %v", loaded, err)
	}
}

// A file that somebody has damaged costs its bad lines, and no more.
func TestStoreDamaged(t *testing.T) {
	now := time.Now()
	good := fmt.Sprintf("10.0.0.5 2001:db8::5 %d", now.Unix())
	for name, c := range map[string]struct {
		text   string
		loaded int
		failed bool
	}{
		"empty":          {"", 0, true},
		"another file":   {"root:x:0:0\n", 0, true},
		"good":           {storeHeader + "\n" + good + "\n", 1, false},
		"twice":          {storeHeader + "\n" + good + "\n" + good + "\n", 1, false},
		"outside pool":   {storeHeader + "\n" + strings.Replace(good, "10.0.0.5", "10.0.1.5", 1) + "\n" + good + "\n", 1, false},
		"own address":    {storeHeader + "\n" + strings.Replace(good, "10.0.0.5", "10.0.0.1", 1) + "\n", 0, false},
		"broadcast":      {storeHeader + "\n" + strings.Replace(good, "10.0.0.5", "10.0.0.255", 1) + "\n", 0, false},
		"families":       {storeHeader + "\n2001:db8::5 10.0.0.5 1\n::ffff:1.2.3.4 10.0.0.5 1\n", 0, false},
		"cut off":        {storeHeader + "\n" + good + "\n10.0.0.6 2001:", 1, false},
		"of the future":  {storeHeader + "\n10.0.0.5 2001:db8::5 99999999999\n", 1, false},
		"a long line":    {storeHeader + "\n" + good + "\n" + strings.Repeat("x", 1000) + "\n", 1, true},
		"zero bytes":     {storeHeader + "\n\x00\x00\x00\n" + good + "\n", 1, false},
		"no hosts":       {storeHeader + "\n" + strings.Join([]string{"10.0.0.8 fe80::1", "10.0.0.6 ff02::1", "10.0.0.7 ::1", "10.0.0.9 ::"}, " 99999999999\n") + " 99999999999\n" + good + "\n", 1, false},
		"with interface": {storeHeader + "\n10.0.0.5 fe80::1%eth0 1\n", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "maps")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			table := newTable(t, TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/24")})
			loaded, _, err := load(table, path, now)
			if loaded != c.loaded || (err != nil) != c.failed {
				t.Errorf("%d loaded, %v", loaded, err)
			}
		})
	}
}

func TestStaticMapsContradict(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("2001:db8::9")
	for _, pairs := range [][]siit.Pair{
		{{IPv4: a, IPv6: b}, {IPv4: a, IPv6: host(1)}},
		{{IPv4: a, IPv6: b}, {IPv4: a.Next(), IPv6: b}},
		{{IPv4: b, IPv6: a}},
	} {
		if _, err := NewTable(TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/24"), Static: pairs, Clients: anyone}); err == nil {
			t.Errorf("%v is accepted", pairs)
		}
	}
}

// Reading goes on while maps come and go, and allocates nothing.
func TestTableConcurrently(t *testing.T) {
	table := newTable(t, TableConfig{Pool: netip.MustParsePrefix("10.0.0.0/16"), Idle: time.Nanosecond})
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for n := range 500 {
				a := host(n*4 + g)
				if r := table.Admit(a); r != siit.None {
					t.Errorf("%s: %s", a, r)
				}
				table.ipv4(a)
				if n%100 == 0 {
					table.Sweep(time.Now())
				}
			}
		})
	}
	all.Wait()
	table.Admit(host(1))
	hi, lo := halves(host(1).As16())
	if n := testing.AllocsPerRun(100, func() { table.To4(hi, lo) }); n > 0 {
		t.Errorf("a lookup allocates %.0f times", n)
	}
}
