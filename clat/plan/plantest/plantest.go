package plantest

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/siit"
)

// Parse reads a host and a configuration.
func Parse(text string) (plan.Observed, plan.Config, error) {
	var o plan.Observed
	c := plan.Config{Secret: []byte("a secret for tests"), Metric: 2048}
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if err := parseLine(&o, &c, f); err != nil {
			return o, c, fmt.Errorf("%q: %w", line, err)
		}
	}
	return o, c, nil
}

func parseLine(o *plan.Observed, c *plan.Config, f []string) error {
	next := func() string {
		if len(f) == 0 {
			return ""
		}
		s := f[0]
		f = f[1:]
		return s
	}
	var bad error
	number := func() int {
		n, err := strconv.Atoi(next())
		if err != nil {
			bad = err
		}
		return n
	}
	dev := func() int {
		name := next()
		l, ok := o.LinkByName(name)
		if !ok {
			bad = fmt.Errorf("no link %q", name)
		}
		return l.Index
	}
	switch word := next(); word {
	case "link":
		l := plan.Link{Index: number(), Name: next(), Up: true, Carrier: true, MTU: 1500}
		for len(f) > 0 {
			switch w := next(); w {
			case "kind":
				l.Kind = next()
			case "down":
				l.Up = false
			case "nocarrier":
				l.Carrier = false
			case "program":
				l.Programs = append(l.Programs, next())
			case "hidden":
				l.ProgramsHidden = true
			case "loopback":
				l.Loopback = true
			case "alt":
				l.AltNames = append(l.AltNames, next())
			case "port":
				l.BridgePort = true
			case "mtu":
				l.MTU = number()
			case "mtu6":
				l.MTU6 = plan.MTU6(number())
			case "rpfilter":
				l.RPFilter = number()
			case "ours":
				l.Alias = plan.AliasPrefix + "x"
			default:
				return fmt.Errorf("unknown word %q", w)
			}
		}
		o.Links = append(o.Links, l)
	case "addr":
		a := plan.Addr{Link: dev(), Prefix: netip.MustParsePrefix(next()), Valid: plan.Forever}
		for len(f) > 0 {
			switch w := next(); w {
			case "temporary":
				a.Temporary = true
			case "deprecated":
				a.Deprecated = true
			case "tentative":
				a.Tentative = true
			case "dadfailed":
				a.DADFailed = true
			case "valid":
				a.Valid, bad = time.ParseDuration(next())
			case "proto":
				a.Protocol = uint8(number())
			default:
				return fmt.Errorf("unknown word %q", w)
			}
		}
		o.Addrs = append(o.Addrs, a)
	case "route4", "route6":
		r := plan.Route{IPv6: word == "route6", Table: plan.TableMain}
		useless := false
		for len(f) > 0 {
			switch w := next(); w {
			case "default":
			case "via":
				r.Gateway = netip.MustParseAddr(next())
			case "dev":
				r.Link = dev()
			case "metric":
				r.Metric = number()
			case "mtu":
				r.MTU = number()
			case "table":
				r.Table = number()
			case "src":
				r.Source = netip.MustParseAddr(next())
			case "linkdown":
				r.LinkDown = true
			case "proto":
				r.Protocol = number()
			case "useless": // no packet leaves by it with a source that counts
				useless = true
			default:
				part, err := netip.ParsePrefix(w)
				if err != nil || r.IPv6 || !plan.IsPart(part) {
					return fmt.Errorf("unknown word %q", w)
				}
				r.Part = part
			}
		}
		o.Routes = append(o.Routes, r)
		if l, _ := o.LinkByIndex(r.Link); !r.IPv6 && !useless && !r.LinkDown && !r.Source.IsValid() && !o.IsOurs(l) {
			AddEgress(o, r.Link, netip.AddrFrom4([4]byte{10, byte(r.Link), 0, 2}), 0, plan.ProbesIn(r.Part))
		}
	case "egress4": // LINK SOURCE [PROTOCOL [DESTINATIONS]]: what the kernel answers for another flow
		link, source, protocol, n := dev(), netip.MustParseAddr(next()), 0, len(plan.GlobalIPv4)
		if len(f) > 0 {
			protocol = number()
		}
		if len(f) > 0 {
			n = number()
		}
		answer(o, link, source, protocol, plan.GlobalIPv4[:n])
	case "tables4": // what the kernel answers for ordinary packets
		for len(f) > 0 {
			t := plan.DefaultTable{Table: number(), Rule: number()}
			t.BehindMain = t.Rule > 32766
			o.DefaultTables4 = append(o.DefaultTables4, t)
		}
	case "onlink4":
		o.OnLink4 = append(o.OnLink4, plan.OnLink{Link: dev(), Prefix: netip.MustParsePrefix(next())})
	case "routed4":
		o.Routed4 = append(o.Routed4, plan.OnLink{Link: dev(), Prefix: netip.MustParsePrefix(next())})
	case "pref64":
		p := plan.PREF64{Link: dev(), Prefix: netip.MustParsePrefix(next()), Source: "test"}
		for len(f) > 0 {
			switch w := next(); w {
			case "from":
				p.Routers = append(p.Routers, netip.MustParseAddr(next()))
			case "excused":
				p.Excused = append(p.Excused, netip.MustParsePrefix(next()))
			default:
				return fmt.Errorf("unknown word %q", w)
			}
		}
		o.PREF64 = append(o.PREF64, p)
	case "advertised":
		a := plan.Advertised{Link: dev(), Default: true}
		for len(f) > 0 {
			switch w := next(); w {
			case "by":
				a.SLAAC[len(a.SLAAC)-1].Router = netip.MustParseAddr(next())
			case "unheard":
				a.Default = false
			case "neighbour":
				a.SLAAC[len(a.SLAAC)-1].Default = false
			case "deprecated":
				a.SLAAC[len(a.SLAAC)-1].Preferred = false
			default:
				a.SLAAC = append(a.SLAAC, plan.SLAAC{Prefix: netip.MustParsePrefix(w), Default: true, Preferred: true})
			}
		}
		o.Advertised = append(o.Advertised, a)
	case "own":
		o.Memory.Own = append(o.Memory.Own, netip.MustParseAddr(next()))
	case "refused":
		o.Memory.Refused = append(o.Memory.Refused, plan.Refusal{Link: dev(), Addr: netip.MustParseAddr(next())})
	case "running", "shares":
		index := dev()
		r := plan.Remembered{Uplink: plan.Uplink{Name: o.LinkName(index), Index: index}, TUN: next(), IPv4: netip.MustParseAddr(next()), IPv6: netip.MustParseAddr(next())}
		if t, ok := o.LinkByName(r.TUN); ok {
			r.TUNIndex = t.Index
		}
		o.Memory.CLATs = append(o.Memory.CLATs, r)
		if word == "running" {
			o.Memory.Own = append(o.Memory.Own, r.IPv6)
		}
	case "config":
		switch w := next(); w {
		case "enable":
			c.Enable = map[string]plan.Enable{"auto": plan.Auto, "always": plan.Always, "never": plan.Never}[next()]
		case "uplinks":
			c.Uplinks, f = f, nil
		case "ipv6":
			if w := next(); w == "shared" {
				c.Shared = true
			} else {
				c.IPv6 = netip.MustParseAddr(w)
			}
		case "ipv4":
			c.IPv4 = netip.MustParseAddr(next())
		case "mtu":
			c.MTU = plan.MTU4(number())
		case "metric":
			c.Metric = number()
		case "tun":
			c.TUN = next()
		case "icmp-source":
			c.Translation.ICMPSource4 = netip.MustParseAddr(next())
		case "eam":
			c.Translation.Mapping.EAM = append(c.Translation.Mapping.EAM, siit.EAM{IPv4: netip.MustParsePrefix(next()), IPv6: netip.MustParsePrefix(next())})
		default:
			return fmt.Errorf("unknown key %q", w)
		}
	default:
		return fmt.Errorf("unknown word %q", word)
	}
	if bad == nil && len(f) > 0 {
		return fmt.Errorf("left over: %q", f)
	}
	return bad
}

// AddEgress gives a link an address from which destinations are reached.
func AddEgress(o *plan.Observed, link int, source netip.Addr, protocol int, destinations []netip.Addr) {
	o.Addrs = append(o.Addrs, plan.Addr{Link: link, Prefix: netip.PrefixFrom(source, 24), Valid: plan.Forever})
	answer(o, link, source, protocol, destinations)
}

// answer is what the kernel answers for one more flow.
func answer(o *plan.Observed, link int, source netip.Addr, protocol int, destinations []netip.Addr) {
	f := len(o.Egress4)
	for _, to := range destinations {
		o.Egress4 = append(o.Egress4, plan.Egress{Link: link, Flow: f, To: to, Source: source, Protocol: protocol})
	}
}
