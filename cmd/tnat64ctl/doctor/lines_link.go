package doctor

import (
	"fmt"
	"strings"
)

func uplinkLine(f Findings) Line {
	u := f.Uplink
	l := Line{Check: "uplink", Result: Problem}
	switch {
	case u.Name == "" && len(u.Tunnels) > 0:
		l.Text = "the only IPv6 default route leads into the tunnel " + strings.Join(u.Tunnels, " and ")
	case u.Name == "":
		l.Text = "no interface is connected to a network"
	case !u.Up:
		l.Text = u.Name + " is down or has no carrier"
	case u.IPv6Off:
		l.Text = "IPv6 is disabled on " + u.Name
	case !u.Default:
		l.Text = u.Name + " has no IPv6 default route"
	case u.Router.IsValid():
		l.Result, l.Text = OK, fmt.Sprintf("%s has an IPv6 default route through %s, MTU %d", u.Name, u.Router, u.MTU)
	default:
		l.Result, l.Text = OK, fmt.Sprintf("%s has an IPv6 default route, MTU %d", u.Name, u.MTU)
	}
	if f.IPv4.Native != "" && l.Result == Problem {
		l.Result = Warning
	}
	if u.Name != "" && len(u.Tunnels) > 0 {
		l.Text += "; another leads into the tunnel " + strings.Join(u.Tunnels, " and ")
	}
	return l
}

func addressLine(f Findings) Line {
	a := f.Addresses
	l := Line{Check: "address", Result: Problem}
	switch {
	case len(a.Usable) == 0 && len(a.Tentative) > 0:
		l.Text = fmt.Sprintf("%s is tentative: duplicate address detection is running", join(a.Tentative))
	case len(a.Usable) == 0 && len(a.Duplicate) > 0:
		l.Text = fmt.Sprintf("%s is also in use by another machine", join(a.Duplicate))
	case len(a.Usable) == 0:
		l.Text = "no global IPv6 address"
	case len(f.formable()) == 0:
		l.Result, l.Text = OK, fmt.Sprintf("%s; a CLAT shares it with this host, as there is no /64 in which it could form its own", joinHosts(a.Usable))
	default:
		l.Result, l.Text = OK, fmt.Sprintf("%s; a CLAT can form its own in %s", joinHosts(a.Usable), joinPrefixes(f.formable()))
	}
	if f.IPv4.Native != "" && l.Result == Problem {
		l.Result = Warning
	}
	return l
}

func routerLine(f Findings) Line {
	p := f.Router
	switch {
	case !p.Tested:
		return Line{"router", Skipped, "not tested: " + p.Why}
	case p.OK:
		return Line{"router", OK, fmt.Sprintf("%s answers ping in %s", f.Uplink.Router, inWords(p.Time))}
	}
	return Line{"router", Warning, fmt.Sprintf("%s does not answer ping; some routers never do", f.Uplink.Router)}
}

func raLine(f Findings) Line {
	l := Line{Check: "pref64", Result: Warning}
	if f.IPv4.Native != "" {
		l.Result = OK
	}
	ra := f.RA
	prefixes := ra.pref64()
	switch {
	case ra.Error != "":
		l.Result, l.Text = Skipped, "router advertisements cannot be received: "+ra.Error
	case len(prefixes) > 0:
		l.Result = OK
		var by []string
		for _, r := range ra.Routers {
			if len(r.PREF64) > 0 {
				by = append(by, fmt.Sprintf("%s advertises %s", r.Address, joinPrefixes(r.PREF64)))
			}
		}
		l.Text = strings.Join(by, ", ")
	case len(ra.Routers) > 0 && ra.Solicited:
		l.Text = fmt.Sprintf("the router advertisements of %s carry no PREF64 option", joinRouters(ra.Routers))
	case ra.Solicited:
		l.Text = fmt.Sprintf("no router advertisement within %s of a solicitation", inWords(ra.Listened))
	default:
		l.Result, l.Text = Skipped, fmt.Sprintf("no router advertised a PREF64 within %s; only root can solicit routers", inWords(ra.Listened))
	}
	if len(ra.Refused) > 0 {
		var why []string
		for _, r := range ra.Refused {
			if r.Prefix.IsValid() {
				why = append(why, fmt.Sprintf("%s is refused: %s", r.Prefix, r.Why))
			} else {
				why = append(why, r.Why)
			}
		}
		l.Result, l.Text = Warning, l.Text+"; "+strings.Join(why, "; ")
	}
	return l
}

func dnsLines(f Findings) []Line {
	var lines []Line
	for _, s := range f.DNS.Servers {
		l := Line{Check: "dns64", Result: OK}
		who := fmt.Sprintf("%s (%s)", s.Address, s.From)
		switch a := s.Answer; a.Kind {
		case DNS64:
			l.Text = fmt.Sprintf("%s synthesises with %s", who, joinPrefixes(a.PREF64))
		case Negative:
			l.Text = who + " is not a DNS64"
			if len(f.RA.pref64()) == 0 {
				l.Result = Warning
			}
		case Elsewhere:
			l.Result, l.Text = Warning, fmt.Sprintf("%s returns addresses that are not of a NAT64: %s", who, join(a.Address))
		default:
			l.Result, l.Text = Warning, fmt.Sprintf("%s does not answer: %s", who, a.Problems)
		}
		if f.IPv4.Native != "" {
			l.Result = OK
		}
		lines = append(lines, l)
	}
	if len(lines) == 0 {
		lines = append(lines, Line{"dns64", Skipped, "no DNS server of this network is known; name one with -dns"})
	}
	return lines
}

func agreementLines(f Findings) []Line {
	switch {
	case len(f.RA.pref64()) == 0 || len(f.DNS.pref64()) == 0:
		return nil
	case f.disagree():
		return []Line{{"agreement", Problem, "router advertisements and DNS name different prefixes"}}
	}
	return []Line{{"agreement", OK, "router advertisements and DNS name the same prefix"}}
}

func systemLines(f Findings) []Line {
	var lines []Line
	for _, s := range f.System {
		l := Line{Check: "resolver", Result: OK}
		by := ""
		if s.Tunnel {
			by = ", through the tunnel " + s.Via
		}
		what := "does not know the NAT64"
		switch a := s.Answer; a.Kind {
		case DNS64:
			what = "synthesises with " + joinPrefixes(a.PREF64)
		case Elsewhere:
			what = "returns " + join(a.Address)
		case Silent:
			what = "does not answer: " + a.Problems
		}
		l.Text = fmt.Sprintf("programs ask %s (%s)%s, which %s", s.Address, s.From, by, what)
		if odd, ok := f.vpnResolver(); ok && odd.Address == s.Address || s.Answer.Kind == Silent || s.Answer.Kind == Elsewhere {
			l.Result = Warning
		}
		lines = append(lines, l)
	}
	return lines
}

func nativeLine(f Findings) Line {
	if f.IPv4.Native != "" {
		return Line{"native-ipv4", OK, f.IPv4.Native + " has a native IPv4 default route"}
	}
	l := Line{"native-ipv4", OK, "none"}
	if f.IPv4.Tunnel != "" {
		l.Text = fmt.Sprintf("none; an IPv4 default route leads into the tunnel %s", f.IPv4.Tunnel)
	}
	return l
}

func dhcpLine(f Findings) Line {
	d := f.DHCP
	switch {
	case d.Option:
		return Line{"option-108", OK, "the network asks hosts by DHCP to do without IPv4: " + d.Why}
	case d.Maybe:
		return Line{"option-108", Skipped, "unknown: " + d.Why}
	}
	return Line{"option-108", OK, d.Why}
}
