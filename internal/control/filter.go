package control

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tnat64d/datapath/engine"
	"tnat64d/siit"
)

// Filter selects Records: all fields that are set must match. As query
// parameters of /v1/trace: uplink, reason, verdict, protocol, address, snaplen.
type Filter struct {
	Uplink   string       // name
	Reason   string       // one of Reasons
	Verdict  Verdict      // one of Verdicts
	Protocol string       // tcp, udp, icmp (which is ICMPv6 too), or a protocol number
	Address  netip.Prefix // contains source or destination of the packet as it came, or of what came out
	Snaplen  int          // bytes kept of each packet; 0: DefaultSnaplen
}

// Limits of Filter.Snaplen, in bytes.
const (
	DefaultSnaplen = 256
	MaxSnaplen     = 65535 + 40 // the largest IPv6 packet
)

// Reasons returns the words for why a packet was not translated.
func Reasons() []string {
	var all []string
	for r := siit.None + 1; r < siit.NumReasons; r++ {
		all = append(all, r.String())
	}
	return all
}

// Explanation returns the sentence for a word of Reasons, or nothing for one
// that a newer daemon may use.
func Explanation(reason string) string {
	if i := slices.Index(Reasons(), reason); i >= 0 {
		return (siit.None + 1 + siit.Reason(i)).Explanation()
	}
	return ""
}

// Check says which field of f can never match, and what can.
func (f Filter) Check() error {
	if all := Reasons(); f.Reason != "" && !slices.Contains(all, f.Reason) {
		return fmt.Errorf("unknown reason %q; allowed: %s", f.Reason, strings.Join(all, ", "))
	}
	if all := Verdicts(); f.Verdict != "" && !slices.Contains(all, f.Verdict) {
		words := make([]string, len(all))
		for i, v := range all {
			words[i] = string(v)
		}
		return fmt.Errorf("unknown verdict %q; allowed: %s", f.Verdict, strings.Join(words, ", "))
	}
	if _, err := protocols(f.Protocol); err != nil {
		return err
	}
	if f.Snaplen < 0 || f.Snaplen > MaxSnaplen {
		return fmt.Errorf("snapshot length %d is not between 0 and %d", f.Snaplen, MaxSnaplen)
	}
	return nil
}

// protocols returns the protocol numbers that a word stands for, nil for all.
func protocols(word string) ([]byte, error) {
	switch word {
	case "":
		return nil, nil
	case "tcp":
		return []byte{6}, nil
	case "udp":
		return []byte{17}, nil
	case "icmp":
		return []byte{1, 58}, nil
	}
	n, err := strconv.ParseUint(word, 10, 8)
	if err != nil {
		return nil, fmt.Errorf("unknown protocol %q; allowed: tcp, udp, icmp, and numbers from 0 to 255", word)
	}
	return []byte{byte(n)}, nil
}

// query returns f as query parameters.
func (f Filter) query() url.Values {
	q := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("uplink", f.Uplink)
	set("reason", f.Reason)
	set("verdict", string(f.Verdict))
	set("protocol", f.Protocol)
	if f.Address.IsValid() {
		set("address", f.Address.String())
	}
	if f.Snaplen != 0 {
		set("snaplen", strconv.Itoa(f.Snaplen))
	}
	return q
}

// parseFilter is the inverse of query. Unknown parameters are errors, since a
// filter that is not applied shows what was not asked for.
func parseFilter(q url.Values) (f Filter, err error) {
	for name, values := range q {
		v := values[len(values)-1]
		switch name {
		case "uplink":
			f.Uplink = v
		case "reason":
			f.Reason = v
		case "verdict":
			f.Verdict = Verdict(v)
		case "protocol":
			f.Protocol = v
		case "address":
			f.Address, err = ParseAddress(v)
		case "snaplen":
			if f.Snaplen, err = strconv.Atoi(v); err != nil {
				err = fmt.Errorf("snapshot length %q is not a number", v)
			}
		default:
			err = fmt.Errorf("unknown parameter %q", name)
		}
		if err != nil {
			return f, err
		}
	}
	return f, f.Check()
}

// ParseAddress reads an address, which stands for itself only, or a prefix.
func ParseAddress(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a prefix", s)
	}
	return p.Masked(), nil
}

// matcher is a Filter made ready for many packets.
type matcher struct {
	Filter
	numbers []byte // protocols, nil for all
}

func newMatcher(f Filter) matcher {
	if f.Snaplen == 0 {
		f.Snaplen = DefaultSnaplen
	}
	numbers, _ := protocols(f.Protocol) // parseFilter has checked it
	return matcher{f, numbers}
}

// match says whether the filter wants a packet.
func (m *matcher) match(uplink string, v Verdict, s engine.Seen) bool {
	reason := s.Result.Reason
	if m.Uplink != "" && m.Uplink != uplink || m.Verdict != "" && m.Verdict != v ||
		m.Reason != "" && (reason == siit.None || m.Reason != reason.String()) {
		return false
	}
	if m.numbers == nil && !m.Address.IsValid() {
		return true
	}
	h, _ := siit.ParseHeader(s.Packet) // a malformed packet is wanted as well
	if m.numbers != nil && (h.Version == 0 || !slices.Contains(m.numbers, h.Protocol)) {
		return false
	}
	if !m.Address.IsValid() || between(&h, m.Address) {
		return true
	}
	for _, p := range s.Result.Packets {
		if h, _ := siit.ParseHeader(p.Bytes()); between(&h, m.Address) {
			return true
		}
	}
	return false
}

// between reports whether p contains the source or destination of a packet.
func between(h *siit.Header, p netip.Prefix) bool { return p.Contains(h.Src) || p.Contains(h.Dst) }
