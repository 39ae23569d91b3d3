package dns64

import (
	"errors"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"tnat64d/internal/needs"
)

// An upstream resolver on a link is asked by the interface that has its name now.
func TestUpstreamOfALinkThatIsMadeAgain(t *testing.T) {
	query := new(dns.Msg).SetQuestion("example.", dns.TypeA)
	onALinkThatIsMadeAgain(t, "wan0", func() {
		// Nobody listens there, which the host itself says, as a rule: one in some tens
		// of its ICMP errors did not come.
		var err error
		for range 10 {
			if _, err = ask(t.Context(), netip.MustParseAddrPort("[fe80::1%wan0]:53"), query, 2*time.Second); errors.Is(err, unix.ECONNREFUSED) {
				return
			}
		}
		t.Errorf("%v, want: connection refused", err)
	})
}

// A server listens on the interface that has the name now.
func TestListenOnALinkThatIsMadeAgain(t *testing.T) {
	onALinkThatIsMadeAgain(t, "lan0", func() {
		udp, tcp, err := bind(t.Context(), netip.MustParseAddrPort("[fe80::1%lan0]:53"))
		if err != nil {
			t.Error(err)
			return
		}
		udp.Close()
		tcp.Close()
	})
}

// onALinkThatIsMadeAgain calls do twice, with an interface of that name that has the
// address fe80::1, in a network namespace of its own. It removes the interface
// between. Each test has another name: package net remembers the first index.
func onALinkThatIsMadeAgain(t *testing.T, name string, do func()) {
	needs.Netns(t)
	ip := func(script string) {
		if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	ip("ip link set lo up")
	for range 2 {
		ip("ip link add " + name + " type veth peer name p; ip link set p up; ip link set " + name + " addrgenmode none up; ip addr add fe80::1/64 dev " + name + " nodad")
		do()
		ip("ip link del " + name)
	}
}
