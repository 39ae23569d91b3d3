package doctor

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tnat64d/internal/control"
)

var update = flag.Bool("update", false, "write the golden file")

var (
	wkp      = netip.MustParsePrefix("64:ff9b::/96")
	nsp      = netip.MustParsePrefix("2001:db8:64::/96")
	router   = netip.MustParseAddr("fe80::1")
	resolver = netip.MustParseAddr("2001:db8:1::53")
	laptop   = netip.MustParsePrefix("2001:db8:1::10/64")
)

func answers(d time.Duration) Probe { return Probe{Tested: true, OK: true, Time: d} }
func silent(why string) Probe       { return Probe{Tested: true, Why: why} }

// good are the findings on a network that has everything, with tnat64d not
// running and a target that answers.
func good() *Findings {
	return &Findings{
		Host:      Host{Kernel: "6.18.0", TCX: true, BPFKnown: true},
		Uplink:    Uplink{Name: "wlan0", Index: 2, Up: true, MTU: 1500, Default: true, Router: router},
		Router:    answers(2 * time.Millisecond),
		Addresses: Addresses{Usable: []netip.Prefix{laptop}, Formable: []netip.Prefix{laptop.Masked()}},
		RA: RA{Solicited: true, Listened: 700 * time.Millisecond, Routers: []Router{{
			Address: router, Default: true, PREF64: []netip.Prefix{wkp}, SLAAC: []netip.Prefix{laptop.Masked()}, Resolvers: []netip.Addr{resolver}}}},
		DNS:    DNS{Servers: []Server{{Address: resolver, From: "router advertisement", Answer: Answer{Kind: DNS64, PREF64: []netip.Prefix{wkp}}}}},
		System: []Server{{Address: resolver, From: "/etc/resolv.conf", Via: "wlan0", Answer: Answer{Kind: DNS64, PREF64: []netip.Prefix{wkp}}}},
		DHCP:   DHCP{Why: "systemd-networkd does not use DHCPv4 on the link"},
		Target: &Target{Name: "198.51.100.7:443", Address: netip.MustParseAddr("198.51.100.7"), Port: 443},
		Paths:  []Path{{PREF64: wkp, Echo: answers(12 * time.Millisecond), TCP: answers(1300 * time.Millisecond)}},
		Size:   Size{Tested: true, Link: 1500, Largest: 1500},
		Fresh: Fresh{Tested: true, Address: netip.MustParseAddr("2001:db8:1::f"),
			OwnRouter: answers(time.Millisecond), FreshRouter: answers(time.Millisecond), OwnTarget: answers(time.Millisecond), FreshTarget: answers(time.Millisecond)},
	}
}

// The pieces that cases are made of.

func noTarget(f *Findings) {
	f.Target, f.Paths, f.Size, f.Fresh = nil, nil, Size{Why: "there is no target"}, Fresh{Why: "-deep tests it as root"}
}

func ordinaryUser(f *Findings) {
	f.RA = RA{Listened: 1500 * time.Millisecond}
	f.Router = Probe{Why: errNoEcho.Error()}
}

func noPrefix(f *Findings) {
	f.RA.Routers[0].PREF64 = nil
	f.DNS.Servers[0].Answer = Answer{Kind: Negative}
	f.System[0].Answer = Answer{Kind: Negative}
	f.Paths, f.Size = nil, Size{Why: "nothing answers ping through a NAT64"}
}

func unreached(f *Findings) {
	f.Paths[0].Echo, f.Paths[0].TCP = silent(noAnswer), silent(noAnswer)
	f.Size = Size{Why: "nothing answers ping through a NAT64"}
}

func noRoute(f *Findings) {
	f.Uplink.Default, f.Uplink.Router, f.Addresses = false, netip.Addr{}, Addresses{}
	f.Router = Probe{Why: "there is none"}
	f.RA.Routers, f.DNS.Servers, f.System, f.Paths = nil, nil, nil, nil
	f.Size, f.Fresh = Size{Why: "nothing answers ping through a NAT64"}, Fresh{Why: "there is no IPv6 default route or address"}
}

func native(f *Findings) { f.IPv4.Native = "wlan0" }

func plain(echo, tcp Probe) func(*Findings) {
	return func(f *Findings) { f.Paths = append(f.Paths, Path{Echo: echo, TCP: tcp}) }
}

func daemon(state control.State, why string) func(*Findings) {
	return func(f *Findings) {
		u := control.Uplink{Name: "wlan0", State: state, Why: why}
		if state == control.Up {
			u.PREF64 = []control.PREF64{{Prefix: wkp, Source: "ra", InUse: true}}
			u.CLAT = &control.CLAT{PLAT: control.PLAT{State: control.PLATAnswering}}
		}
		f.Daemon = Daemon{Running: true, Status: &control.Status{Enable: "auto", Uplinks: []control.Uplink{u}}}
	}
}

var works = daemon(control.Up, "PREF64 64:ff9b::/96 on wlan0 (ra from fe80::1)")

func twoPrefixes(f *Findings) {
	f.RA.Routers[0].PREF64 = []netip.Prefix{wkp, nsp}
	f.DNS.Servers[0].Answer.PREF64 = []netip.Prefix{wkp, nsp}
	f.Paths = append(f.Paths, f.Paths[0])
	f.Paths[1].PREF64 = nsp
}

func firstDead(f *Findings) { f.Paths[0].Echo, f.Paths[0].TCP = silent(noAnswer), silent(noAnswer) }

func otherDNS(f *Findings) {
	f.DNS.Servers[0].Answer.PREF64 = []netip.Prefix{nsp}
	f.Paths = append(f.Paths, f.Paths[0])
	f.Paths[1].PREF64 = nsp
}

func secondDead(f *Findings) { f.Paths[1].Echo, f.Paths[1].TCP = silent(noAnswer), silent(noAnswer) }

func smallHole(f *Findings) { f.Size.Largest = 1400 }

func portal(f *Findings) {
	f.DNS.Servers[0].Answer = Answer{Kind: Elsewhere, Address: []netip.Addr{netip.MustParseAddr("2001:db8:1::80")}}
	f.System[0].Answer = f.DNS.Servers[0].Answer
}

func vpnDNS(f *Findings) {
	f.System = []Server{{Address: netip.MustParseAddr("10.8.0.1"), From: "/etc/resolv.conf", Via: "wg0", Tunnel: true, Answer: Answer{Kind: Negative}}}
	f.IPv4.Tunnel = "wg0"
}

func filteredAddress(f *Findings) {
	f.Fresh.FreshRouter, f.Fresh.FreshTarget = silent(noAnswer), silent(noAnswer)
}

func dhcpv6(f *Findings) {
	f.Addresses = Addresses{Usable: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::dc6/128")}}
	f.RA.Routers[0].SLAAC = nil
	f.Fresh = Fresh{Why: "there is no /64 in which an address could be formed"}
}

func noRA(f *Findings) {
	f.RA.Routers, f.RA.Listened = nil, 4700*time.Millisecond
	f.DNS.Servers[0].Answer = Answer{Kind: Silent, Problems: "no answer in time"}
}

func another(f *Findings) {
	f.Others = []Other{{Name: "NetworkManager", Evidence: "wlan0 has the address 192.0.0.5", Alive: true}}
}

func anotherTUN(f *Findings) {
	f.Others = []Other{{Name: "tayga", Evidence: "clat has the address 192.0.0.1", Alive: true}}
}

func dead(f *Findings) {
	f.Others = []Other{{Name: "NetworkManager", Evidence: "wlan0 has the address 192.0.0.5, but no BPF program translates"}}
}

// cases: a name, what is different from a good network, and the diagnosis.
var cases = []struct {
	name   string
	change []func(*Findings)
	code   string
}{
	{"good", nil, "healthy"},
	{"good, no target", with(noTarget), "healthy"},
	{"good, target that does not resolve", with(noTarget, func(f *Findings) { f.NoTarget = `target "nowhere.example": no IPv4 address is known for it` }), "healthy"},
	{"good, tnat64d runs", with(works, plain(answers(time.Millisecond), answers(time.Millisecond))), "healthy"},
	{"good, tnat64d may not be asked", with(func(f *Findings) {
		f.Daemon = Daemon{Running: true, Error: "no permission", Interfaces: map[string]string{"wlan0": "clat0"}}
	}), "healthy"},
	{"ordinary user", with(ordinaryUser), "healthy"},

	{"no link", with(noRoute, func(f *Findings) { f.Uplink = Uplink{} }), "no-network"},
	{"nothing but a VPN", with(noRoute, func(f *Findings) { f.Uplink = Uplink{Tunnels: []string{"wg0"}} }), "tunnel-only"},
	{"no carrier", with(noRoute, func(f *Findings) { f.Uplink.Up = false; f.RA.Error = "wlan0 is not connected" }), "link-down"},

	{"native IPv4", with(native), "native-ipv4"},
	{"native IPv4 and no IPv6", with(noRoute, native), "ipv4-only"},
	{"native IPv4 on another link", with(func(f *Findings) { f.IPv4.Native = "eth0" }), "native-ipv4-elsewhere"},
	{"native IPv4 without PREF64", with(noPrefix, native), "native-ipv4"},
	{"native IPv4 that leads nowhere", with(native, plain(silent(noAnswer), silent(noAnswer))), "native-ipv4-broken"},

	{"no IPv6", with(noRoute), "no-ipv6"},
	{"no IPv6, ordinary user", with(noRoute, ordinaryUser), "no-ipv6-unasked"},
	{"IPv6 off", with(noRoute, func(f *Findings) { f.Uplink.IPv6Off = true }), "ipv6-off"},
	{"RA ignored", with(func(f *Findings) { f.Uplink.Default = false }), "ra-ignored"},
	{"RA ignored by the kernel", with(func(f *Findings) { f.Uplink.Default, f.Uplink.Ignores = false, true }), "ra-ignored"},
	{"router lifetime 0", with(func(f *Findings) { f.Uplink.Default, f.RA.Routers[0].Default = false, false }), "no-default-router"},

	{"address tentative", with(func(f *Findings) { f.Addresses = Addresses{Tentative: []netip.Addr{laptop.Addr()}} }), "address-tentative"},
	{"address duplicate", with(func(f *Findings) { f.Addresses = Addresses{Duplicate: []netip.Addr{laptop.Addr()}} }), "address-duplicate"},
	{"no address from SLAAC", with(func(f *Findings) { f.Addresses = Addresses{} }), "no-address"},
	{"no address at all", with(func(f *Findings) { f.Addresses, f.RA.Routers[0].SLAAC = Addresses{}, nil }), "no-address"},

	{"router dead", with(unreached, noRA, func(f *Findings) { f.Router = silent(noAnswer) }), "router-dead"},
	{"router that answers ping", with(noPrefix, noRA), "no-pref64-dns-silent"},
	{"router silent, but the way is open", with(func(f *Findings) { f.RA.Routers, f.Router = nil, silent(noAnswer) }), "dns64-only"},

	{"another CLAT", with(another), "other-clat"},
	{"another CLAT that does not work", with(another, plain(silent(noAnswer), silent(noAnswer))), "other-clat-broken"},
	{"another CLAT on a TUN", with(anotherTUN), "other-clat"},
	{"another CLAT that is dead", with(dead), "healthy"},
	{"another CLAT beside tnat64d", with(another, works), "healthy"},

	{"captive portal", with(noPrefix, portal), "captive-portal"},
	{"captive portal that stops packets", with(portal, unreached), "captive-portal"},
	{"odd DNS, but the target answers", with(portal), "healthy"},

	{"no PREF64", with(noPrefix), "no-pref64"},
	{"no PREF64, option 108", with(noPrefix, func(f *Findings) { f.DHCP = DHCP{Option: true, Why: "NetworkManager's lease has the option"} }), "no-pref64"},
	{"no PREF64, option 108 perhaps", with(noPrefix, func(f *Findings) { f.DHCP = DHCP{Maybe: true, Why: "it is only in the log"} }), "no-pref64"},
	{"no PREF64, ordinary user", with(noPrefix, ordinaryUser), "no-pref64-unasked"},
	{"no PREF64, no resolver", with(noPrefix, func(f *Findings) { f.DNS, f.System = DNS{}, nil }), "no-pref64-no-dns"},
	{"no PREF64, resolver silent", with(noPrefix, func(f *Findings) { f.DNS.Servers[0].Answer = Answer{Kind: Silent, Problems: "no answer in time"} }), "no-pref64-dns-silent"},
	{"no RA at all, DNS64", with(func(f *Findings) { f.RA.Routers = nil; f.RA.Listened = 4700 * time.Millisecond }), "dns64-only"},
	{"RA cannot be heard", with(func(f *Findings) { f.RA = RA{Error: "netlink socket: too many open files"} }), "healthy"},
	{"PREF64 refused", with(func(f *Findings) {
		f.RA.Refused = []Refused{{Prefix: wkp, Why: "it overlaps a prefix of the link itself"}}
		f.Paths, f.Size = nil, Size{Why: "nothing answers ping through a NAT64"}
	}), "pref64-refused"},
	{"rubbish in RAs", with(func(f *Findings) {
		f.RA.Refused = []Refused{{Why: "A PREF64 option has the undefined prefix length code 6 or 7."}}
	}), "healthy"},

	{"no TUN", with(func(f *Findings) { f.Host.TUN = "there is no /dev/net/tun" }), "no-tun"},
	{"no CAP_NET_ADMIN", with(func(f *Findings) { f.Host.Missing = []string{"CAP_NET_ADMIN", "CAP_NET_RAW"} }), "no-rights"},
	{"no CAP_NET_RAW", with(func(f *Findings) { f.Host.Missing = []string{"CAP_NET_RAW"} }), "healthy"},
	{"no TUN, and no PREF64", with(noPrefix, func(f *Findings) { f.Host.TUN = "there is no /dev/net/tun" }), "no-pref64"},
	{"kernel too old", with(func(f *Findings) { f.Host = Host{Kernel: "5.4.0", Old: true} }), "healthy"},
	{"kernel without BPF", with(func(f *Findings) { f.Host.BPF = "not supported" }), "healthy"},
	{"kernel without tcx, not root", with(func(f *Findings) { f.Host = Host{Kernel: "6.1.0"} }), "healthy"},

	{"DHCPv6 only", with(dhcpv6), "healthy"},
	{"DHCPv6 only, with a /64", with(func(f *Findings) { f.RA.Routers[0].SLAAC = nil }), "healthy"},
	{"DHCPv6 only, without BPF", with(dhcpv6, func(f *Findings) { f.Host.BPF = "not supported" }), "dhcpv6-only"},
	{"DHCPv6 only, without BPF, but clat.ipv6", with(dhcpv6, works, func(f *Findings) { f.Host.BPF = "not supported" }), "healthy"},
	{"DAD answered", with(func(f *Findings) { f.Fresh = Fresh{Tested: true, Address: f.Fresh.Address, Duplicate: true} }), "dad-answered"},

	{"PLAT dead", with(unreached), "plat-dead"},
	{"PLAT dead, router silent", with(unreached, func(f *Findings) { f.Router = silent(noAnswer) }), "plat-dead"},
	{"PLAT unreachable", with(unreached, func(f *Findings) { f.Paths[0].Echo = silent("2001:db8::9 says that it has no route there") }), "plat-dead"},
	{"both PLATs dead", with(twoPrefixes, firstDead, secondDead), "plat-dead"},
	{"PLAT dead and DHCPv6 only", with(dhcpv6, unreached), "plat-dead"},
	{"first PLAT dead", with(twoPrefixes, firstDead), "one-plat-dead"},
	{"second PLAT dead", with(twoPrefixes, secondDead), "one-plat-dead"},
	{"second PLAT dead, tnat64d uses the first", with(twoPrefixes, secondDead, works), "one-plat-dead"},
	{"TCP silent", with(func(f *Findings) { f.Paths[0].TCP = silent(noAnswer) }), "tcp-silent"},
	{"TCP refused", with(func(f *Findings) {
		f.Paths[0].TCP = Probe{Tested: true, OK: true, Time: time.Millisecond, Why: "refuses the connection, but answers"}
	}), "healthy"},
	{"ping silent", with(func(f *Findings) {
		f.Paths[0].Echo = silent(noAnswer)
		f.Size = Size{Why: "nothing answers ping through a NAT64"}
	}), "healthy"},

	{"black hole", with(smallHole), "black-hole"},
	{"black hole at the minimum", with(func(f *Findings) { f.Size.Largest = 0 }), "black-hole"},
	{"black hole behind a Packet Too Big", with(smallHole, func(f *Findings) { f.Size.Told, f.Size.Reporter = 1480, router }), "black-hole"},
	{"black hole and one PLAT dead", with(twoPrefixes, firstDead, smallHole), "one-plat-dead"},
	{"smaller MTU, properly told", with(smallHole, func(f *Findings) { f.Size.Told, f.Size.Reporter = 1400, router }), "healthy"},

	{"address filtered", with(filteredAddress), "address-filtered"},
	{"address filtered beyond the link", with(func(f *Findings) { f.Fresh.FreshTarget = silent(noAnswer) }), "address-filtered"},
	{"black hole and address filtered", with(smallHole, filteredAddress), "black-hole"},

	{"tnat64d mute", with(func(f *Findings) { f.Daemon = Daemon{Running: true, Error: "no permission to talk to tnat64d"} }), "tnat64d-mute"},
	{"tnat64d is told never", with(daemon(control.Standby, `clat.enable is "never"`), func(f *Findings) { f.Daemon.Status.Enable = "never" }), "tnat64d-never"},
	{"tnat64d elsewhere", with(func(f *Findings) {
		f.Daemon = Daemon{Running: true, Status: &control.Status{Why: "eth7 does not exist"}}
	}), "tnat64d-elsewhere"},
	{"tnat64d waits for an interface that does not exist", with(func(f *Findings) {
		f.Daemon = Daemon{Running: true, Status: &control.Status{Why: "waiting for an uplink: wlan does not exist", Missing: []string{"wlan"}}}
	}), "uplink-missing"},
	{"tnat64d failed", with(daemon(control.Failed, "cannot make the TUN: no memory")), "tnat64d-failed"},
	{"tnat64d starting", with(daemon(control.Starting, "DAD")), "tnat64d-starting"},
	{"tnat64d waits", with(daemon(control.Waiting, "waiting for a PREF64 on wlan0")), "tnat64d-waits"},
	{"tnat64d waits for what is not there", with(noPrefix, daemon(control.Waiting, "waiting for a PREF64 on wlan0")), "no-pref64"},
	{"PLAT silent to tnat64d", with(noTarget, works, func(f *Findings) {
		f.Daemon.Status.Uplinks[0].CLAT.PLAT = control.PLAT{State: control.PLATSilent, Why: "12 packets went out and none came back"}
	}), "plat-silent"},
	{"stuck between programs and tnat64d", with(works, plain(silent(noAnswer), silent(noAnswer))), "clat-stuck"},

	{"RA and DNS disagree", with(otherDNS), "disagreement"},
	{"RA and DNS disagree, no target", with(otherDNS, noTarget), "disagreement"},
	{"RA and DNS disagree, DNS is wrong", with(otherDNS, secondDead), "disagreement"},
	{"RA and DNS disagree, RA is wrong", with(otherDNS, firstDead), "disagreement"},
	{"RA and DNS disagree, both are wrong", with(otherDNS, firstDead, secondDead), "plat-dead"},

	{"DNS silent", with(func(f *Findings) {
		f.DNS.Servers[0].Answer = Answer{Kind: Silent, Problems: "connection refused"}
		f.System[0].Answer = f.DNS.Servers[0].Answer
	}), "dns-silent"},
	{"the link's DNS silent, another answers", with(func(f *Findings) {
		f.DNS.Servers[0].Answer = Answer{Kind: Silent, Problems: "connection refused"}
		f.System[0] = Server{Address: netip.MustParseAddr("127.0.0.53"), From: "a resolver on this machine", Via: "lo", Answer: Answer{Kind: DNS64, PREF64: []netip.Prefix{wkp}}}
	}), "healthy"},
	{"no DNS64", with(func(f *Findings) {
		f.DNS.Servers[0].Answer, f.System[0].Answer = Answer{Kind: Negative}, Answer{Kind: Negative}
	}), "healthy"},
	{"VPN resolver", with(vpnDNS), "vpn-resolver"},
	{"VPN resolver, tnat64d runs", with(vpnDNS, works), "vpn-resolver"},
	{"resolver of the user's choice", with(func(f *Findings) {
		f.System[0] = Server{Address: netip.MustParseAddr("2001:db8:8888::1"), From: "/etc/resolv.conf", Via: "wlan0", Answer: Answer{Kind: Negative}}
	}), "vpn-resolver"},
	{"VPN resolver and a black hole", with(vpnDNS, smallHole), "black-hole"},
	{"DNS64 only", with(func(f *Findings) { f.RA.Routers[0].PREF64 = nil }), "dns64-only"},
	{"DNS64 only, tnat64d runs", with(func(f *Findings) { f.RA.Routers[0].PREF64 = nil }, works), "dns64-only"},
}

func with(change ...func(*Findings)) []func(*Findings) { return change }

// TestCases compares the diagnosis of every case, and the lines in which it
// differs from a good network, with a golden file.
func TestCases(t *testing.T) {
	usual := Lines(*good())
	var b strings.Builder
	for _, c := range cases {
		f := good()
		for _, change := range c.change {
			change(f)
		}
		r := NewReport(*f)
		if r.Diagnosis.Code != c.code {
			t.Errorf("%s: diagnosis is %s, want %s", c.name, r.Diagnosis.Code, c.code)
		}
		fmt.Fprintf(&b, "# %s\n", c.name)
		r.Lines = slices.DeleteFunc(r.Lines, func(l Line) bool { return c.name != "good" && slices.Contains(usual, l) })
		if err := r.Print(&b); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s, healthy: %v\n\n", r.Diagnosis.Code, r.Diagnosis.Healthy)
	}
	const path = "testdata/cases.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")); diff != "" {
		t.Errorf("other words than in %s (-want +got):\n%s", path, diff)
	}
}

// TestEveryDiagnosis checks that there is a case for every code that the rules
// can come to.
func TestEveryDiagnosis(t *testing.T) {
	files, err := filepath.Glob("rules_*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source []byte
	for _, f := range append(files, "diagnose.go") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, b...)
	}
	for _, m := range regexp.MustCompile(`Code(?::| =)\s+"([^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		i := 0
		for ; i < len(cases) && cases[i].code != m[1]; i++ {
		}
		if i == len(cases) {
			t.Errorf("no case has the diagnosis %s", m[1])
		}
	}
}

// TestOneSentence holds the words to their form: one line each, without a
// capital at the beginning or a full stop at the end.
func TestOneSentence(t *testing.T) {
	for _, c := range cases {
		f := good()
		for _, change := range c.change {
			change(f)
		}
		d := Diagnose(*f)
		for _, s := range []string{d.Sentence, d.Next} {
			if s == "" || strings.Contains(s, "\n") || strings.HasSuffix(s, ".") || strings.Contains(s, "%!") || strings.Contains(s, "invalid") {
				t.Errorf("%s: %q", c.name, s)
			}
			if first := s[:1]; first != strings.ToLower(first) && !strings.HasPrefix(s, "IPv") && !strings.HasPrefix(s, "DNS") && !strings.HasPrefix(s, "NetworkManager") {
				t.Errorf("%s: %q begins with a capital", c.name, s)
			}
		}
	}
}

// TestNothing: the zero value is a host without a network, and nothing panics
// on the way.
func TestNothing(t *testing.T) {
	r := NewReport(Findings{})
	if r.Diagnosis.Code != "no-network" || len(r.Lines) == 0 {
		t.Errorf("%+v", r)
	}
	// Every prefix of what a good examination fills in.
	f := Findings{Uplink: good().Uplink}
	for _, step := range []func(){
		func() { f.Addresses = good().Addresses },
		func() { f.RA = good().RA },
		func() { f.DNS = good().DNS },
		func() { f.Target = good().Target },
		func() { f.Paths = good().Paths },
	} {
		if r := NewReport(f); r.Diagnosis.Sentence == "" {
			t.Errorf("%+v", r)
		}
		step()
	}
}
