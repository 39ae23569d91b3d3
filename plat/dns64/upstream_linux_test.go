package dns64

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// An upstream resolver on a link is asked by the interface that has its name now.
func TestUpstreamOfALinkThatIsMadeAgain(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making a network namespace takes root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		ip := func(script string) {
			if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", script, err, out)
			}
		}
		ip("ip link set lo up")
		query := new(dns.Msg).SetQuestion("example.", dns.TypeA)
		for range 2 {
			ip("ip link add wan0 type veth peer name p; ip link set p up; ip link set wan0 addrgenmode none up; ip addr add fe80::1/64 dev wan0 nodad")
			// Nobody listens there, which the host itself says.
			if _, err := ask(t.Context(), netip.MustParseAddrPort("[fe80::1%wan0]:53"), query, 20*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%v, want: connection refused", err)
			}
			ip("ip link del wan0")
		}
	}()
	<-done
}
