package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// given is a network and how the laptop gets its address there.
type given struct {
	name   string
	kind   lab.Kind
	own    string       // address and prefix length, configured by hand
	router string       // of the default route, configured by hand
	shared bool         // the CLAT shares the laptop's address
	within netip.Prefix // where the CLAT's address is; not valid: anywhere
}

var givens = []given{
	{name: "one address by DHCPv6", kind: lab.DHCPv6Only, shared: true},
	{name: "delegated prefix", kind: lab.Delegated, within: lab.DelegatedPrefix},
	{name: "cloud machine: /128 and fe80::1", kind: lab.Cloud, own: "2001:db8:1::dc6/128", router: "fe80::1", shared: true},
	{name: "static /64, no router advertisements", kind: lab.Static, own: "2001:db8:1::5/64", router: "2001:db8:1::1", within: lab.LaptopLink},
}

// configurer is a program that configures the laptop's uplink.
type configurer struct {
	name    string
	version string // command that prints it
	files   func(g given) map[string]string
	start   string
	again   string // configures the uplink once more
}

const networkd = `
install -d -o systemd-network -g systemd-network /run/systemd/netif
chmod -R a+rX /etc/systemd
/usr/lib/systemd/systemd-networkd >>/run/networkd.log 2>&1 &
echo $! >/run/networkd.pid
`

// networkdAgain is systemctl restart systemd-networkd. The first process of the machine
// is no parent for those that have ended.
const networkdAgain = `
pid=$(cat /run/networkd.pid)
kill $pid
while grep -q "^State:.[^Z]" /proc/$pid/status; do sleep 0.1; done
` + networkd

// behindPath is the file of networkd for the interface that gets a delegated prefix.
const behindPath = "/etc/systemd/network/20-inside.network"

// networkdFiles are those of systemd.network(5).
func networkdFiles(g given) map[string]string {
	uplink := "[Match]\nName=" + lab.Uplink + "\n[Network]\n"
	switch {
	case g.own != "":
		uplink += fmt.Sprintf("IPv6AcceptRA=no\nAddress=%s\n[Route]\nGateway=%s\nGatewayOnLink=yes\n", g.own, g.router)
	default:
		uplink += "DHCP=ipv6\nIPv6AcceptRA=yes\n"
	}
	return map[string]string{
		"/etc/systemd/network/10-uplink.network": uplink,
		behindPath: "[Match]\nName=" + lab.DelegatedLink +
			"\n[Network]\nDHCPPrefixDelegation=yes\nIPv6AcceptRA=no\nConfigureWithoutCarrier=yes\n[DHCPPrefixDelegation]\nSubnetId=1\n",
	}
}

const dhcpcdPath = "/etc/dhcpcd.conf"

// dhcpcdConf is dhcpcd.conf(5).
func dhcpcdConf(g given) string {
	text := "nodev\nduid\nipv6only\nallowinterfaces " + lab.Uplink + " " + lab.DelegatedLink + "\ninterface " + lab.Uplink + "\n"
	switch {
	case g.own != "":
		return text + "noipv6rs\nstatic ip6_address=" + g.own + "\n"
	case g.kind == lab.Delegated:
		text += "ia_pd 2 " + lab.DelegatedLink + "/1/64\n"
	}
	return text + "ia_na 1\n"
}

// nmKeyfile is a connection of NetworkManager.
func nmKeyfile(name, kind, ifname, ipv6 string) string {
	return fmt.Sprintf("[connection]\nid=%s\ntype=%s\ninterface-name=%s\n[ipv4]\nmethod=disabled\n[ipv6]\n%s", name, kind, ifname, ipv6)
}

var configurers = []configurer{
	{
		name: "systemd-networkd", version: "/usr/lib/systemd/systemd-networkd --version | head -1",
		files: networkdFiles,
		start: networkd,
		again: networkdAgain,
	},
	{
		name: "netplan", version: "dpkg-query -W -f 'netplan.io ${Version}' netplan.io",
		files: func(g given) map[string]string {
			text := "network:\n  version: 2\n  ethernets:\n    " + lab.Uplink + ":\n"
			if g.own != "" {
				text += fmt.Sprintf("      accept-ra: false\n      addresses: [%q]\n      routes:\n      - {to: default, via: %q, on-link: true}\n", g.own, g.router)
			} else {
				text += "      dhcp6: true\n      accept-ra: true\n"
			}
			files := map[string]string{"/etc/netplan/50-uplink.yaml": text}
			if g.kind == lab.Delegated { // of which netplan has no settings
				files[behindPath] = networkdFiles(g)[behindPath]
			}
			return files
		},
		start: "/usr/libexec/netplan/configure\n" + networkd, // as netplan's unit does before networkd
		again: networkdAgain,
	},
	{
		name: "ifupdown", version: "dpkg-query -W -f 'ifupdown ${Version}' ifupdown",
		files: func(g given) map[string]string {
			if g.own == "" {
				// Its method "inet6 dhcp" knows dhclient alone, which this release has
				// not. "inet dhcp" runs dhcpcd, which does both families.
				return map[string]string{
					"/etc/network/interfaces": "iface " + lab.Uplink + " inet dhcp\n",
					dhcpcdPath:                dhcpcdConf(g),
				}
			}
			text := fmt.Sprintf("iface %s inet6 static\n\taddress %s\n\tgateway %s\n\taccept_ra 0\n", lab.Uplink, g.own, g.router)
			return map[string]string{"/etc/network/interfaces": text}
		},
		start: "mkdir -p /run/network; ifup " + lab.Uplink + "\n",
		again: "ifdown " + lab.Uplink + "; ifup " + lab.Uplink,
	},
	{
		name: "dhcpcd", version: "dhcpcd --version | head -1",
		files: func(g given) map[string]string {
			files := map[string]string{dhcpcdPath: dhcpcdConf(g)}
			if g.own != "" { // it has no setting for a default route of IPv6
				files["/etc/dhcpcd.exit-hook"] = fmt.Sprintf("if $if_up && [ $interface = %[1]s ]; then ip -6 route replace default via %[2]s dev %[1]s onlink; fi\n",
					lab.Uplink, g.router)
			}
			return files
		},
		start: "dhcpcd --nobackground &\n",
		again: "dhcpcd --rebind",
	},
	{
		name: "NetworkManager", version: "NetworkManager --version",
		files: func(g given) map[string]string {
			ours, err := os.ReadFile("../networkmanager/90-tnat64.conf")
			if err != nil {
				panic(err)
			}
			ipv6 := "method=auto\n"
			if g.own != "" {
				ipv6 = fmt.Sprintf("method=manual\naddress1=%s,%s\n", g.own, g.router)
			}
			files := map[string]string{
				"/etc/NetworkManager/conf.d/test.conf":                                "[main]\nplugins=keyfile\nauth-polkit=root-only\ndns=none\nno-auto-default=*\n[connection]\nipv4.clat=0\n",
				"/usr/lib/NetworkManager/conf.d/90-tnat64.conf":                       string(ours),
				"/etc/NetworkManager/system-connections/" + profile + ".nmconnection": nmKeyfile(profile, "ethernet", lab.Uplink, ipv6),
			}
			if g.kind == lab.Delegated { // it asks for a prefix to share
				files["/etc/NetworkManager/system-connections/behind.nmconnection"] = nmKeyfile("behind", "ethernet", lab.DelegatedLink, "method=shared\n")
			}
			return files
		},
		start: lab.StartBus + `
if [ -e /etc/NetworkManager/system-connections/behind.nmconnection ]; then
	# In the place of a bridge, which waits for ports.
	behind=` + lab.DelegatedLink + `
	ip link del $behind
	ip link add $behind up type veth peer name host
	ip link set host up
fi
NetworkManager --debug --log-level=INFO &
while ! nmcli connection up ` + profile + `; do sleep 0.3; done
`,
		again: "nmcli connection up " + profile,
	},
}

// everyday is the traffic that must pass whoever has configured the uplink.
func everyday() (all []load) {
	for _, l := range loads {
		switch l.name {
		case "TCP", "UDP", "ping", "datagram of 8 KB and its answer":
			all = append(all, l)
		}
	}
	return all
}

// TestConfigured has the laptop's uplink configured by each program that does so on
// Debian, on networks that give one address, delegate a prefix, or have no router
// advertisements. tnat64d needs no configuration on any of them, and goes on when the
// program configures the uplink once more.
func TestConfigured(t *testing.T) {
	needRoot(t)
	t.Parallel()
	var mu sync.Mutex
	answers := make(map[string]string) // by row and column
	versions := make(map[string]bool)
	t.Run("by", func(t *testing.T) {
		for _, c := range configurers {
			for _, g := range givens {
				answers[g.name+c.name] = "no"
				t.Run(c.name+"/"+g.kind.String(), func(t *testing.T) {
					t.Parallel()
					s := newStage(t, lab.Options{Kind: g.kind, Unconfigured: true})
					s.machine = newMachine(t, s.Lab, s.root, c.files(g), c.start)
					s.configured(g)
					version := strings.TrimSpace(s.machine.run(t, "/bin/sh", "-c", c.version))
					s.start("")
					s.carries(g)
					began := time.Now()
					s.machine.run(t, "/bin/sh", "-c", c.again+"\n")
					s.flows(t)
					gap := s.result(began)
					s.carries(g)
					mu.Lock()
					defer mu.Unlock()
					versions[version] = true
					if !t.Failed() {
						answers[g.name+c.name] = fmt.Sprintf("yes; configured once more: %v", gap.longest.Round(beat))
					}
				})
			}
		}
	})
	var rows, columns []string
	for _, g := range givens {
		rows = append(rows, g.name)
	}
	for _, c := range configurers {
		columns = append(columns, c.name)
	}
	t.Log("\n" + table(rows, columns, answers, versions))
}

// configured waits until the laptop is online.
func (s *stage) configured(g given) {
	s.t.Helper()
	if g.own != "" {
		if err := s.SetResolvConf(s.Laptop, "nameserver "+s.IPv6.String()+"\n"); err != nil {
			s.t.Fatal(err)
		}
	}
	eventually(s.t, func() error {
		return s.online(time.Second)
	})
}

// carries wants a CLAT with the address that belongs to the network, and everyday
// traffic.
func (s *stage) carries(g given) {
	s.t.Helper()
	eventually(s.t, func() error {
		u := s.wants(control.Up)
		own, err := s.LaptopAddress()
		if err != nil {
			return err
		}
		a := u.CLAT.IPv6
		if u.CLAT.Shared != g.shared || g.shared && a != own || g.within.IsValid() && !g.within.Contains(a) {
			behind, _ := s.Laptop.Addresses(lab.DelegatedLink)
			return fmt.Errorf("the CLAT has %s (shared: %v), the laptop %s, and behind it %s", a, u.CLAT.Shared, own, behind)
		}
		return nil
	})
	for _, l := range everyday() {
		eventually(s.t, func() error {
			if err := l.try(s); err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			return nil
		})
	}
}
