package dns64

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"tnat64d/internal/regularfile"
)

// Bounds of a hosts file, and how often it is looked at.
const (
	maxHostsBytes = 4 << 20
	maxHosts      = 100_000
	maxAddresses  = 256 // of one name
	hostsInterval = 5 * time.Second
	localTTL      = 300 // seconds
)

// Zone is a zone whose names are in a hosts file (hosts(5)). Names in the file
// that lie outside the zone are ignored, except that a name of one label is one
// of the zone.
type Zone struct {
	Name string // without the final dot
	Path string

	name    string // canonical
	now     func() time.Time
	problem func(error) // is told of a file that cannot be read, once

	mu      sync.Mutex
	checked time.Time
	stamp   stamp
	failing bool
	hosts   *hosts // nil: never read
}

// stamp says whether a file has changed.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// hosts is the content of a hosts file. The maps are of canonical names.
type hosts struct {
	addresses map[string][]netip.Addr
	reverse   map[string][]string // reverse name to names
	inner     map[string]bool     // names that only have names below
}

// zones are those of a server, the longest name first.
type zones []*Zone

// lookup answers from the zone that a name lies in, or from the PTR records of
// all. It returns nil if none is responsible.
func (z zones) lookup(name string, qtype uint16) *dns.Msg {
	for _, zone := range z {
		if name == zone.name || isBelow(name, zone.name) {
			return zone.answer(name, qtype)
		}
	}
	if strings.HasSuffix(name, ".arpa.") {
		for _, zone := range z {
			if h := zone.current(); h != nil && len(h.reverse[name]) > 0 {
				return zone.answerReverse(h, name, qtype)
			}
		}
	}
	return nil
}

func (z *Zone) answer(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.Authoritative = true
	h := z.current()
	if h == nil { // the file could never be read
		m.Authoritative, m.Rcode = false, dns.RcodeServerFailure
		return m
	}
	addresses, known := h.addresses[name]
	for _, a := range addresses {
		switch {
		case a.Is4() && (qtype == dns.TypeA || qtype == dns.TypeANY):
			m.Answer = append(m.Answer, &dns.A{Hdr: header(name, dns.TypeA, localTTL), A: a.AsSlice()})
		case a.Is6() && (qtype == dns.TypeAAAA || qtype == dns.TypeANY):
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(name, dns.TypeAAAA, localTTL), AAAA: a.AsSlice()})
		}
	}
	switch {
	case name == z.name && qtype == dns.TypeSOA:
		m.Answer = append(m.Answer, z.soa())
	case len(m.Answer) > 0:
	default:
		if !known && !h.inner[name] && name != z.name {
			m.Rcode = dns.RcodeNameError
		}
		m.Ns = []dns.RR{z.soa()}
	}
	return m
}

func (z *Zone) answerReverse(h *hosts, name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.Authoritative = true
	if qtype != dns.TypePTR && qtype != dns.TypeANY {
		m.Ns = []dns.RR{z.soa()}
		return m
	}
	for _, target := range h.reverse[name] {
		m.Answer = append(m.Answer, &dns.PTR{Hdr: header(name, dns.TypePTR, localTTL), Ptr: target})
	}
	return m
}

func (z *Zone) soa() dns.RR {
	return &dns.SOA{
		Hdr: header(z.name, dns.TypeSOA, localTTL), Ns: z.name, Mbox: "nobody.invalid.", Serial: 1,
		Refresh: 3600, Retry: 1200, Expire: 604800, Minttl: localTTL,
	}
}

// current returns the content of the file, read again where it has changed. A
// file that cannot be read any more keeps its last content.
func (z *Zone) current() *hosts {
	z.mu.Lock()
	defer z.mu.Unlock()
	if now := z.now(); z.checked.IsZero() || now.Sub(z.checked) >= hostsInterval {
		z.checked = now
		err := z.reload()
		if err != nil && !z.failing {
			z.problem(fmt.Errorf("cannot read the hosts file of zone %s: %w", z.Name, err))
		}
		z.failing = err != nil
	}
	return z.hosts
}

func (z *Zone) reload() error {
	f, err := regularfile.Open(z.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s := stamp{modified: info.ModTime(), size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = st.Ino
	}
	if z.hosts != nil && s == z.stamp {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxHostsBytes+1))
	if err != nil {
		return err
	}
	if len(text) > maxHostsBytes {
		return fmt.Errorf("%s is longer than %d bytes", z.Path, maxHostsBytes)
	}
	h, err := parseHosts(text, z.name)
	if err != nil {
		return err
	}
	z.hosts, z.stamp = h, s
	return nil
}

// parseHosts reads the text of a hosts file for a zone. Lines that it does not
// understand are skipped, as resolvers do.
func parseHosts(text []byte, zone string) (*hosts, error) {
	h := &hosts{addresses: map[string][]netip.Addr{}, reverse: map[string][]string{}, inner: map[string]bool{}}
	count := 0
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		words := bytes.Fields(line)
		if len(words) < 2 {
			continue
		}
		a, err := netip.ParseAddr(string(words[0]))
		if err != nil || a.Zone() != "" {
			continue
		}
		a = a.Unmap()
		for _, word := range words[1:] {
			name, ok := hostName(string(word), zone)
			if !ok {
				continue
			}
			if count++; count > maxHosts {
				return nil, errors.New("more than 100000 names")
			}
			h.add(name, zone, a)
		}
	}
	return h, nil
}

// hostName returns the canonical form of a name of the zone.
func hostName(word, zone string) (string, bool) {
	name := dns.CanonicalName(word)
	if dns.CountLabel(name) == 1 && name != zone {
		name += zone
	}
	if _, ok := dns.IsDomainName(name); !ok || len(name) > 254 {
		return "", false
	}
	return name, name == zone || isBelow(name, zone)
}

func (h *hosts) add(name, zone string, a netip.Addr) {
	if have := h.addresses[name]; len(have) < maxAddresses && !slices.Contains(have, a) {
		h.addresses[name] = append(h.addresses[name], a)
	}
	// The first name of an address is its canonical one; hosts(5) calls the
	// others aliases.
	if r := reverseName(a); len(h.reverse[r]) == 0 {
		h.reverse[r] = []string{name}
	}
	for name != zone {
		_, parent, ok := strings.Cut(name, ".")
		if !ok || parent == "" || h.inner[parent] {
			return
		}
		h.inner[parent] = true
		name = parent
	}
}
