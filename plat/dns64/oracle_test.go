package dns64

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// oracleZone is what all resolvers see upstream.
const oracleZone = `
example. 300 IN SOA ns.example. root.example. 1 7200 3600 604800 120
example. 300 IN NS ns.example.
four.example. 300 IN A 198.51.100.7
two.example. 300 IN A 198.51.100.7
two.example. 300 IN A 192.0.2.33
both.example. 300 IN A 198.51.100.7
both.example. 300 IN AAAA 2001:db8:f::1
six.example. 300 IN AAAA 2001:db8:f::6
www.example. 300 IN CNAME four.example.
deep.example. 300 IN CNAME www.example.
sixalias.example. 300 IN CNAME six.example.
nowhere.example. 300 IN CNAME none.example.
txtalias.example. 300 IN CNAME txt.example.
txt.example. 300 IN TXT "text"
mapped.example. 300 IN AAAA ::ffff:192.0.2.9
mapped.example. 300 IN A 192.0.2.9
bad.example. 300 IN AAAA 2001:db8:bad::1
bad.example. 300 IN A 192.0.2.10
mixed.example. 300 IN AAAA 2001:db8:bad::1
mixed.example. 300 IN AAAA 2001:db8:f::7
mixed.example. 300 IN A 192.0.2.11
badonly.example. 300 IN AAAA 2001:db8:bad::1
private.example. 300 IN A 10.1.2.3
loopback.example. 300 IN A 127.0.0.1
old.example. 300 IN DNAME new.example.
host.new.example. 300 IN A 192.0.2.12
100.51.198.in-addr.arpa. 300 IN SOA ns.example. root.example. 1 7200 3600 604800 120
7.100.51.198.in-addr.arpa. 300 IN PTR four.example.
`

// answerFrom makes the answer function of a resolver that knows the records of a
// zone file.
func answerFrom(t testing.TB, zone string) func(*dns.Msg, bool) *dns.Msg {
	t.Helper()
	var records []dns.RR
	for line := range strings.Lines(zone) {
		if line = strings.TrimSpace(line); line != "" {
			rr, err := dns.NewRR(line)
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, rr)
		}
	}
	return func(q *dns.Msg, _ bool) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		if opt := q.IsEdns0(); opt != nil {
			m.SetEdns0(1232, opt.Do())
		}
		name, qtype := dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype
		if strings.HasPrefix(name, "servfail.") && qtype == dns.TypeAAAA {
			m.Rcode = dns.RcodeServerFailure
			return m
		}
		if strings.HasPrefix(name, "servfail.") && qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: header(name, dns.TypeA, 300), A: []byte{192, 0, 2, 13}}}
			return m
		}
	names:
		for range 10 {
			exists, next := false, ""
			for _, rr := range records {
				h := rr.Header()
				exists = exists || h.Name == name || isBelow(h.Name, name)
				switch {
				case h.Name == name && h.Rrtype == qtype:
					m.Answer = append(m.Answer, rr)
				case h.Name == name && h.Rrtype == dns.TypeCNAME:
					m.Answer = append(m.Answer, rr)
					next = rr.(*dns.CNAME).Target
				case h.Rrtype == dns.TypeDNAME && isBelow(name, h.Name):
					target := strings.TrimSuffix(name, h.Name) + rr.(*dns.DNAME).Target
					m.Answer = append(m.Answer, rr, &dns.CNAME{Hdr: header(name, dns.TypeCNAME, h.Ttl), Target: target})
					next = target
				}
			}
			if next != "" {
				name = next
				continue names
			}
			found := slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == qtype })
			if !found {
				if !exists {
					m.Rcode = dns.RcodeNameError
				}
				for _, rr := range records {
					if rr.Header().Rrtype == dns.TypeSOA && (name == rr.Header().Name || isBelow(name, rr.Header().Name)) {
						m.Ns = []dns.RR{rr}
					}
				}
				if len(m.Ns) == 0 {
					m.Ns = []dns.RR{&dns.SOA{Hdr: header(".", dns.TypeSOA, 60), Ns: "a.", Mbox: "b.", Serial: 1, Refresh: 1, Retry: 1, Expire: 1, Minttl: 60}}
				}
			}
			break
		}
		return m
	}
}

// coreDNS is the environment variable with the path of the program that
// `make test-coredns` builds.
const coreDNS = "TNAT64_COREDNS"

// oracle is another DNS64 that serves on loopback.
type oracle struct {
	program string
	// command writes the configuration to dir and returns the command line.
	command func(t *testing.T, dir string, port int, upstream netip.AddrPort) []string
	// differs says why an answer is another one, by "NAME TYPE".
	differs map[string]string
}

var oracles = map[string]oracle{
	"BIND": {
		program: "named",
		command: func(t *testing.T, dir string, port int, up netip.AddrPort) []string {
			conf := filepath.Join(dir, "named.conf")
			write(t, conf, fmt.Sprintf(`options {
	directory %q; pid-file none; session-keyfile none; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion yes; dnssec-validation no; forward only; forwarders { %v port %d; }; empty-zones-enable no; minimal-responses yes;
	dns64 2001:db8:64::/96 { clients { any; }; exclude { ::ffff:0:0/96; 2001:db8:bad::/48; }; };
};
controls { };
`, dir, port, up.Addr(), up.Port()))
			return []string{"named", "-g", "-c", conf}
		},
		differs: map[string]string{
			"servfail.example. AAAA": "RFC 6147 5.1.2: any RCODE but 3 counts as an empty answer; BIND returns SERVFAIL",
			"ipv4only.arpa. A":       "RFC 8880 7.2: answered by the DNS64 itself; BIND 9.18 with forwarders asks these",
			"ipv4only.arpa. AAAA":    "RFC 8880 7.2: answered by the DNS64 itself; BIND 9.18 with forwarders asks these",
			"ipv4only.arpa. TXT":     "RFC 8880 7.2: answered by the DNS64 itself; BIND 9.18 with forwarders asks these",
			"loopback.example. AAAA": "RFC 6147 5.1.7 lets a DNS64 choose by IPv4 ranges, and no NAT64 reaches a loopback address (RFC 6890)",
			"4.3.2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR": "RFC 6147 5.3.1: a DNS64 SHOULD ensure that there is RDATA at the target; BIND makes the CNAME anyhow",
		},
	},
	"unbound": {
		program: "unbound",
		command: func(t *testing.T, dir string, port int, up netip.AddrPort) []string {
			conf := filepath.Join(dir, "unbound.conf")
			write(t, conf, fmt.Sprintf(`server:
	directory: %q
	chroot: ""
	username: ""
	pidfile: ""
	use-syslog: no
	logfile: ""
	do-daemonize: no
	interface: 127.0.0.1@%d
	do-ip6: no
	do-not-query-localhost: no
	module-config: "dns64 iterator"
	dns64-prefix: 2001:db8:64::/96
	local-zone: "8.b.d.0.1.0.0.2.ip6.arpa." nodefault
	local-zone: "100.51.198.in-addr.arpa." nodefault
	local-zone: "127.in-addr.arpa." nodefault
remote-control:
	control-enable: no
forward-zone:
	name: "."
	forward-addr: %v@%d
`, dir, port, up.Addr(), up.Port()))
			return []string{"unbound", "-d", "-c", conf}
		},
		differs: map[string]string{
			"loopback.example. AAAA": "RFC 6147 5.1.7 lets a DNS64 choose by IPv4 ranges, and no NAT64 reaches a loopback address (RFC 6890)",
			"mapped.example. AAAA":   "RFC 6147 5.1.4 SHOULD: unbound has no exclusions",
			"bad.example. AAAA":      "RFC 6147 5.1.4 SHOULD: unbound has no exclusions",
			"mixed.example. AAAA":    "RFC 6147 5.1.4 SHOULD: unbound has no exclusions",
			"badonly.example. AAAA":  "RFC 6147 5.1.4 SHOULD: unbound has no exclusions",
			"ipv4only.arpa. A":       "RFC 8880 7.2: answered by the DNS64 itself; unbound 1.17 asks upstream",
			"ipv4only.arpa. AAAA":    "RFC 8880 7.2: answered by the DNS64 itself; unbound 1.17 asks upstream",
			"ipv4only.arpa. TXT":     "RFC 8880 7.2: answered by the DNS64 itself; unbound 1.17 asks upstream",
			"7.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR": "RFC 6147 5.3.1: a DNS64 MUST answer in one of two ways, here by CNAME; unbound puts the PTR record there itself",
		},
	},
}

func init() {
	program := os.Getenv(coreDNS)
	if program == "" {
		return
	}
	oracles["CoreDNS"] = oracle{
		program: program,
		command: func(t *testing.T, dir string, port int, up netip.AddrPort) []string {
			conf := filepath.Join(dir, "Corefile")
			write(t, conf, fmt.Sprintf(`.:%d {
	bind 127.0.0.1
	errors
	dns64 {
		prefix 2001:db8:64::/96
		allow_ipv4
	}
	forward . %v
}
`, port, up))
			return []string{"coredns", "-conf", conf}
		},
		differs: map[string]string{
			"mapped.example. AAAA":   "RFC 6147 5.1.4 SHOULD: CoreDNS has no exclusions",
			"bad.example. AAAA":      "RFC 6147 5.1.4 SHOULD: CoreDNS has no exclusions",
			"mixed.example. AAAA":    "RFC 6147 5.1.4 SHOULD: CoreDNS has no exclusions",
			"badonly.example. AAAA":  "RFC 6147 5.1.4 SHOULD: CoreDNS has no exclusions",
			"loopback.example. AAAA": "RFC 6147 5.1.7 lets a DNS64 choose by IPv4 ranges, and no NAT64 reaches a loopback address (RFC 6890)",
			"ipv4only.arpa. A":       "RFC 8880 7.2: answered by the DNS64 itself; CoreDNS asks upstream",
			"ipv4only.arpa. AAAA":    "RFC 8880 7.2: answered by the DNS64 itself; CoreDNS asks upstream",
			"ipv4only.arpa. TXT":     "RFC 8880 7.2: answered by the DNS64 itself; CoreDNS asks upstream",
			"7.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR": "RFC 6147 5.3.1: a DNS64 MUST answer in one of two ways; CoreDNS asks upstream",
		},
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// freePort returns a port of loopback that is free for UDP and TCP.
func freePort(t *testing.T) int {
	t.Helper()
	udp, tcp := bindFree(t)
	defer udp.Close()
	defer tcp.Close()
	return udp.LocalAddr().(*net.UDPAddr).Port
}

// essence is what matters of a reply: RCODE, the chain, and the data at its end.
func essence(m *dns.Msg) string {
	var data []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.CNAME:
			data = append(data, "CNAME "+strings.ToLower(rr.Target))
		case *dns.DNAME:
			data = append(data, "DNAME "+strings.ToLower(rr.Target))
		case *dns.AAAA:
			data = append(data, "AAAA "+netip.AddrFrom16([16]byte(rr.AAAA.To16())).String())
		case *dns.A:
			data = append(data, "A "+rr.A.String())
		case *dns.PTR:
			data = append(data, "PTR "+strings.ToLower(rr.Ptr))
		default:
			data = append(data, dns.TypeToString[rr.Header().Rrtype])
		}
	}
	slices.Sort(data)
	return dns.RcodeToString[m.Rcode] + " " + strings.Join(data, ", ")
}

// Other DNS64 servers say the same about the same zone, or RFC 6147 says why
// not.
func TestOracles(t *testing.T) {
	questions := []string{
		"four.example. AAAA", "two.example. AAAA", "both.example. AAAA", "six.example. AAAA", "none.example. AAAA",
		"www.example. AAAA", "deep.example. AAAA", "sixalias.example. AAAA", "nowhere.example. AAAA", "txtalias.example. AAAA",
		"txt.example. AAAA", "mapped.example. AAAA", "bad.example. AAAA", "mixed.example. AAAA", "badonly.example. AAAA",
		"private.example. AAAA", "loopback.example. AAAA", "host.old.example. AAAA", "servfail.example. AAAA",
		"four.example. A", "www.example. A", "txt.example. TXT", "none.example. A", "FOUR.example. AAAA",
		"ipv4only.arpa. A", "ipv4only.arpa. AAAA", "ipv4only.arpa. TXT",
		"7.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR",
		"4.3.2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR",
		"7.100.51.198.in-addr.arpa. PTR",
	}
	for name, o := range oracles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Daemons are outside the PATH of ordinary users.
			program := o.program
			if !filepath.IsAbs(program) {
				program = "/usr/sbin/" + program
			}
			program, err := exec.LookPath(program)
			if err != nil {
				t.Skipf("needs %s (apt-get install bind9 unbound)", o.program)
			}
			// A copy: profiles of AppArmor go by the path.
			dir := t.TempDir()
			binary, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			program = filepath.Join(dir, filepath.Base(o.program))
			if err := os.WriteFile(program, binary, 0o755); err != nil {
				t.Fatal(err)
			}
			up := newUpstream(t, answerFrom(t, oracleZone))
			ours := start(t, Options{CacheEntries: 1000}, up)
			port := freePort(t)
			line := o.command(t, dir, port, up.addr)
			cmd := exec.Command(program, line[1:]...)
			var said strings.Builder
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				cmd.Process.Kill()
				cmd.Wait()
				if t.Failed() {
					t.Logf("%s said:\n%s", o.program, said.String())
				}
			}()
			theirs := fmt.Sprintf("127.0.0.1:%d", port)
			c := dns.Client{Timeout: 10 * time.Second}
			deadline := time.Now().Add(60 * time.Second)
			for {
				if _, _, err := c.Exchange(question("four.example.", dns.TypeA), theirs); err == nil {
					break
				} else if time.Now().After(deadline) {
					t.Fatalf("%s does not answer: %v", o.program, err)
				}
				time.Sleep(50 * time.Millisecond)
			}
			for _, line := range questions {
				qname, qtype, _ := strings.Cut(line, " ")
				q := question(qname, dns.StringToType[qtype])
				mine := essence(ours.ask(t, "udp", q))
				m, _, err := c.Exchange(q, theirs)
				if err != nil {
					t.Errorf("%s: %v", line, err)
					continue
				}
				why, expected := o.differs[line]
				switch other := essence(m); {
				case mine == other && expected:
					t.Errorf("%s: both say %s, though %s", line, mine, why)
				case mine != other && !expected:
					t.Errorf("%s:\n ours %s\n%s %s", line, mine, name, other)
				case mine != other:
					t.Logf("%s: ours %s, %s %s: %s", line, mine, name, other, why)
				}
			}
		})
	}
}
