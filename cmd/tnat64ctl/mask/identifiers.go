package mask

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	dashes = regexp.MustCompile(`(?i)[0-9a-f]{1,12}(-[0-9a-f]{1,12}){3,}`)
	cisco  = regexp.MustCompile(`(?i)[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}`)
	// halves are MAC addresses as some switches write them.
	halves = regexp.MustCompile(`(?i)\b([0-9a-f]{6}-[0-9a-f]{6}|[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4})\b`)
	digits = regexp.MustCompile(`[0-9A-Fa-f]{12,}`)
	// address4 may be an IPv4 address in hexadecimal digits.
	address4 = regexp.MustCompile(`\b(0x)?[0-9A-Fa-f]{8,11}\b`)
	// octets is a run of bytes: hexadecimal digits, escapes, or a slice as Go
	// prints it.
	octets = regexp.MustCompile(`(?i)\b[0-9a-f]{2}( [0-9a-f]{2}){5,}\b|(\\x[0-9a-f]{2}){4,}|\[[0-9]{1,3}( [0-9]{1,3}){3,}\]`)
	// eui64 is eight bytes, which also is an IPv6 address.
	eui64 = regexp.MustCompile(`^([0-9A-Fa-f]{2}:){7}[0-9A-Fa-f]{2}$`)
	// client is what DHCP calls a client.
	client = regexp.MustCompile(`(?i)\b((?:duid|iaid|client-?id(?:entifier)?)(?:-[a-z]+)?(?:\\*")?[ =:]+)(\\+"[^"\n]*"|"(?:[^"\\\n]|\\.)*"?|[^\s"',;]+)`)
)

// identifier masks an identifier.
func (m *addresses) identifier(s string) string {
	return fmt.Sprintf("<id #%d>", m.number(strings.ToLower(s)))
}

// clients masks what DHCP calls a client.
func (m *addresses) clients(s string) string {
	return client.ReplaceAllStringFunc(s, func(found string) string {
		at := client.FindStringSubmatchIndex(found)
		return found[:at[3]] + m.identifier(strings.Trim(found[at[4]:], `\"`))
	})
}

// identifiers masks identifiers that have no colons.
func (m *addresses) identifiers(s string) string {
	for _, kind := range []*regexp.Regexp{dashes, halves, digits, octets} {
		s = kind.ReplaceAllStringFunc(s, m.identifier)
	}
	return address4.ReplaceAllStringFunc(s, func(s string) string {
		if !strings.ContainsAny(s, "abcdefABCDEF") && !strings.HasPrefix(s, "0x") {
			return s // a number
		}
		return m.identifier(s)
	})
}
