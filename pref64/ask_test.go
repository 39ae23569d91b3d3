package pref64

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestAsk(t *testing.T) {
	var (
		wkp    = netip.MustParsePrefix("64:ff9b::/96")
		mapped = netip.MustParseAddr("64:ff9b::c000:aa")
		suffix = netip.MustParseAddr("2001:db8:122:344:c0:0:aa00:1") // bits behind the IPv4 address do not count
		portal = netip.MustParseAddr("2001:db8:1::80")
	)
	for _, c := range []struct {
		name     string
		reply    reply
		prefixes []netip.Prefix
		addrs    int
		ignored  Reason
		err      string
	}{
		{"DNS64", reply{addrs: []netip.Addr{mapped}, ttl: 60}, []netip.Prefix{wkp}, 1, None, ""},
		{"suffix that is not zero", reply{addrs: []netip.Addr{suffix}}, []netip.Prefix{netip.MustParsePrefix("2001:db8:122:344::/64")}, 1, None, ""},
		{"one of two is a prefix", reply{addrs: []netip.Addr{portal, mapped}}, []netip.Prefix{wkp}, 2, None, ""},
		{"captive portal", reply{addrs: []netip.Addr{portal}}, nil, 1, NoWellKnown, ""},
		{"no such record", reply{soa: true}, nil, 0, None, ""},
		{"no such name", reply{rcode: dnsmessage.RCodeNameError}, nil, 0, None, ""},
		{"server failure", reply{rcode: dnsmessage.RCodeServerFailure}, nil, 0, None, "answers ServerFailure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dns := &fakeDNS{t: t, servers: map[netip.Addr]handler{}}
				dns.answers(server1, c.reply)
				a, err := dialFunc(dns.dial).askRepeatedly(t.Context(), server1, 3, time.Second)
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Fatalf("error %v, want %q", err, c.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(a.Prefixes, c.prefixes) || len(a.Addresses) != c.addrs || a.Ignored != c.ignored {
					t.Errorf("answer %+v", a)
				}
				if n := dns.count(); n != 1 {
					t.Errorf("asked %d times", n)
				}
			})
		})
	}
}

func TestAskRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{t: t, servers: map[netip.Addr]handler{}}
		dns.set(server1, nil)
		start := time.Now()
		if _, err := dialFunc(dns.dial).askRepeatedly(t.Context(), server1, 3, time.Second); err == nil {
			t.Error("a silent server answered")
		}
		if n, took := dns.count(), time.Since(start); n != 3 || took != 3*time.Second {
			t.Errorf("asked %d times in %v", n, took)
		}
		if _, err := dialFunc(dns.dial).askRepeatedly(t.Context(), server2, 3, time.Second); err == nil {
			t.Error("an unreachable server answered")
		}
		if n := dns.count(); n != 1 {
			t.Errorf("asked an unreachable server %d times", n)
		}
	})
}
