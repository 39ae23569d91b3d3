// Package mask removes from text what identifies a host, its user or its
// network, so that the text can be published.
package mask

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Masker masks texts. It gives the same address or name the same number in all
// of them, so that a reader can still tell which ones are the same. The zero
// value is ready to use.
type Masker struct {
	hidden
	addresses
}

// hidden are the names that are replaced wherever they stand alone.
type hidden struct {
	words map[string]*regexp.Regexp
	links map[string]*regexp.Regexp // names of interfaces
}

// addresses replaces addresses and other identifiers.
type addresses struct {
	numbers
	short []netip.Prefix // shorter than a /48, seen in texts: see shown
}

// numbers tells secrets apart.
type numbers struct{ of map[string]int }

// keptBits is how much of an IPv6 address stays: what the provider gives to a
// customer at most (RFC 6177).
const keptBits = 48

// Hide makes the Masker remove these words wherever they stand alone or as a
// label of a name, in any case: host names, user names, domains. Empty words
// and those that identify nobody ("localhost", "root", "debian") are ignored.
func (m *hidden) Hide(words ...string) {
	for _, w := range words {
		w = strings.ToLower(strings.Trim(w, ". \t\n"))
		if w == "" || slices.Contains(everybodys, w) || m.words[w] != nil {
			continue
		}
		if m.words == nil {
			m.words = map[string]*regexp.Regexp{}
		}
		m.words[w] = alone(`(?i:` + regexp.QuoteMeta(w) + `)`)
	}
}

// hideHost hides the name of a host, and its first label.
func (m *hidden) hideHost(name string) {
	label, _, _ := strings.Cut(name, ".")
	m.Hide(name, label)
}

// everybodys are names of hosts, users and domains that many have.
var everybodys = []string{
	"localhost", "root", "local", "lan", "home", "internal", "localdomain", "host", "user", "admin", "nobody",
	"debian", "ubuntu", "fedora", "arch", "kernel", "systemd", "tnat64", "tnat64d", "tnat64-gateway",
	// Of the accounts that images for clouds and live systems have.
	"cloud", "default", "ec2", "ec2-user", "cloud-user", "live", "guest", "test",
}

// alone returns an expression for what expression finds where neither letters nor
// digits are beside it.
func alone(expression string) *regexp.Regexp {
	return regexp.MustCompile(`(^|[^\pL\pN])` + expression + `($|[^\pL\pN])`)
}

// longestFirst returns the keys of m in the order in which they are replaced: a name
// before its parts.
func longestFirst(m map[string]*regexp.Regexp) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
}

// masked is an address as it has been replaced.
var masked = regexp.MustCompile(`<[0-9a-f:.]+/[0-9]+ #[0-9]+>`)

// replaceAlone replaces what an expression of alone finds, but not in what replaces
// an address: a name may look like a part of that.
func replaceAlone(what *regexp.Regexp, s, replacement string) string {
	var b strings.Builder
	end := 0
	replace := func(s string) {
		// Twice, because neighbours share the character between them.
		s = what.ReplaceAllString(s, "${1}"+replacement+"${2}")
		b.WriteString(what.ReplaceAllString(s, "${1}"+replacement+"${2}"))
	}
	for _, at := range masked.FindAllStringIndex(s, -1) {
		replace(s[end:at[0]])
		b.WriteString(s[at[0]:at[1]])
		end = at[1]
	}
	replace(s[end:])
	return b.String()
}

var (
	// colons is a run that may be an IPv6 address, a MAC address or an identifier
	// in pairs of hexadecimal digits: at least two colons.
	colons = regexp.MustCompile(`[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*`)
	clock  = regexp.MustCompile(`^([01]?[0-9]|2[0-3]):[0-5][0-9]:[0-6][0-9]([.][0-9]*)?:?$`)
	// place is a line and a column of a file, or a port between colons.
	place = regexp.MustCompile(`^:[0-9]{1,5}:[0-9]{0,5}:?$`)
	// names has at least one dot, and a letter at the beginning of its last label.
	names  = regexp.MustCompile(`[\pL\pN_-]+(\.[\pL\pN_-]+)*\.[\pL_][\pL\pN_-]*`)
	dotted = regexp.MustCompile(`[0-9]+(\.[0-9]+){3,}`)

	prefixes = regexp.MustCompile(`([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)/([0-9]{1,2})\b`)
)

// Text returns s without addresses beyond their /48, host names, MAC addresses
// and other identifiers, values of the configuration, and what people have named:
// interfaces, networks, directories. Control characters become spaces, except for ends of
// lines.
func (m *Masker) Text(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029') {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	m.note(s)
	m.noteSenders(s)
	m.noteLinks(s)
	s = m.values(s)
	s = m.clients(s)
	s = m.paths(s)
	s = colons.ReplaceAllStringFunc(s, m.colons)
	s = cisco.ReplaceAllStringFunc(s, m.identifier)
	s = names.ReplaceAllStringFunc(s, m.name)
	s = dotted.ReplaceAllStringFunc(s, m.dotted)
	s = m.identifiers(s)
	s = m.hideLinks(s)
	for _, w := range longestFirst(m.words) {
		s = replaceAlone(m.words[w], s, "<name>")
	}
	return s
}

// note remembers the prefixes in s that are shorter than a /48: with such a
// PREF64 the /48 of an address has a part of an IPv4 address (RFC 6052 section
// 2.2).
func (m *addresses) note(s string) {
	for _, found := range prefixes.FindAllStringSubmatch(s, -1) {
		bits, _ := strconv.Atoi(found[2])
		a, err := netip.ParseAddr(found[1])
		if err != nil || !a.Is6() || bits >= keptBits || bits == 0 {
			continue
		}
		if p, err := a.Prefix(bits); err == nil && !slices.Contains(m.short, p) {
			m.short = append(m.short, p)
		}
	}
}

// number returns the number of a secret, which is that of its first occurrence.
func (m *numbers) number(secret string) int {
	if m.of == nil {
		m.of = map[string]int{}
	}
	n, ok := m.of[secret]
	if !ok {
		n = len(m.of) + 1
		m.of[secret] = n
	}
	return n
}

// colons masks what has at least two colons.
func (m *addresses) colons(s string) string {
	if strings.Trim(s, ":.") == "" && s != "::" || clock.MatchString(s) || place.MatchString(s) {
		return s
	}
	if eui64.MatchString(s) {
		return m.identifier(s)
	}
	// A sentence may go on with a colon or a dot behind an address.
	word, rest := s, ""
	a, err := netip.ParseAddr(word)
	for err != nil && word != "" && strings.HasSuffix(word, ".") || err != nil && strings.HasSuffix(word, ":") {
		word, rest = word[:len(word)-1], word[len(word)-1:]+rest
		a, err = netip.ParseAddr(word)
	}
	if err != nil {
		return m.identifier(s)
	}
	return m.ipv6(a) + rest
}

func (m *addresses) ipv6(a netip.Addr) string {
	if public6(a) {
		return a.String()
	}
	if a.Is4In6() {
		return "<::ffff:IPv4 #" + strconv.Itoa(m.number(a.String())) + ">"
	}
	return fmt.Sprintf("<%s #%d>", m.shown(a), m.number(a.String()))
}

// shorter are networks of which less than a /48 stays. Its capacity is its
// length, so that appending to it copies.
var shorter = slices.Clip([]netip.Prefix{
	netip.MustParsePrefix("::/16"),        // IPv4-compatible and the like
	netip.MustParsePrefix("64:ff9b::/32"), // of NAT64 (RFC 6052, RFC 8215)
	netip.MustParsePrefix("2001::/32"),    // Teredo (RFC 4380): an IPv4 address follows
	netip.MustParsePrefix("2002::/16"),    // 6to4 (RFC 3056): an IPv4 address follows
	netip.MustParsePrefix("fe80::/10"),
})

// shown returns the part of an address that stays.
func (m *addresses) shown(a netip.Addr) netip.Prefix {
	bits := keptBits
	for _, s := range append(shorter, m.short...) {
		if s.Contains(a) {
			bits = min(bits, s.Bits())
		}
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// public6 reports whether everybody has that address.
func public6(a netip.Addr) bool {
	switch a.WithZone("").String() {
	case "::", "::1", "64:ff9b::", "fe80::", "ff02::1", "ff02::2", "ff02::16":
		return true
	}
	return false
}

// dotted masks numbers with dots.
func (m *addresses) dotted(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return m.identifier(s)
	}
	if public4(a) {
		return s
	}
	kind := "IPv4"
	switch {
	case a.IsPrivate():
		kind = "private IPv4"
	case netip.MustParsePrefix("100.64.0.0/10").Contains(a):
		kind = "shared IPv4" // RFC 6598
	case a.IsLinkLocalUnicast():
		kind = "link-local IPv4"
	}
	return fmt.Sprintf("<%s #%d>", kind, m.number(s))
}

// public4 reports whether everybody has that IPv4 address: DS-Lite and
// 464XLAT's (RFC 7335), those of ipv4only.arpa (RFC 7050), and of loopback.
func public4(a netip.Addr) bool {
	switch a.String() {
	case "0.0.0.0", "127.0.0.1", "127.0.0.53", "192.0.0.170", "192.0.0.171", "192.0.0.8", "255.255.255.255":
		return true
	}
	return netip.MustParsePrefix("192.0.0.0/29").Contains(a)
}

// name masks a name with dots, unless it is one of this project's or of the
// system's own.
func (m *Masker) name(s string) string {
	if known.MatchString(s) {
		return s
	}
	return fmt.Sprintf("<name #%d>", m.number(strings.ToLower(s)))
}

// known are names that are not those of hosts: files, units, keys of the
// configuration, sysctls.
var known = regexp.MustCompile(`^(` + strings.Join([]string{
	`ipv4only\.arpa`,
	`(tnat64d|gateway|tnat64)\.(toml|sock|service|log|conf)`,
	`(resolv|nsswitch|gai)\.conf`,
	`(systemd-(resolved|networkd|timesyncd|logind)|NetworkManager|dhcpcd|wpa_supplicant|iwd|connman|networking)(\.service)?`,
	`org\.freedesktop\.(NetworkManager|resolve1|login1|DBus)(\.[A-Z][A-Za-z]+)*`,
	`(clat|discovery|translation|control|shim)\.(enable|uplinks|pref64|ipv6|ipv4|engine|tun|mtu|metric|queues|route|network|sources|dns-servers|plat-probe|lowest-ipv6-mtu|traffic-class|tos|udp-zero-checksum|wkp-private|icmp-errors-per-second|icmp-source|node-id|eam|socket|metrics|local|fallback|method)`,
	`net\.ipv[46]\.(conf|neigh)\.(all|default)\.[a-z0-9_]+`,
	`net\.ipv[46]\.[a-z0-9_]+`,
	`kernel\.unprivileged_bpf_disabled`,
}, "|") + `)$`)
