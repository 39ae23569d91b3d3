package steer

import (
	"errors"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// All programs load with the capabilities that the systemd unit gives, which
// are without CAP_PERFMON: the verifier is stricter then.
func TestLoadsWithoutPerfmon(t *testing.T) {
	needsRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	const bits = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_BPF
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	caps := [2]unix.CapUserData{}
	for i := range caps {
		set := uint32(uint64(bits) >> (32 * i))
		caps[i] = unix.CapUserData{Effective: set, Permitted: set}
	}
	if err := unix.Capset(&hdr, &caps[0]); err != nil {
		t.Fatal(err)
	}
	c := newConstants(1000001, true, 1000002)
	c.token, c.queues = testToken, 2
	for variant := range 8 {
		c.sharing, c.jumboKept, c.linkHeader = variant&1 > 0, variant&2 > 0, variant&4 > 0
		o, refused, err := loadEngine(c)
		if err != nil || refused != nil {
			var why *ebpf.VerifierError
			if errors.As(refused, &why) {
				t.Logf("%+v", why)
			}
			t.Fatalf("sharing %v, jumbo kept %v, link header %v: refused %+v, %+v", c.sharing, c.jumboKept, c.linkHeader, refused, err)
		}
		defer o.Close()
	}
	gw := &Gateway{}
	if err := gw.load(c); err != nil {
		var why *ebpf.VerifierError
		if errors.As(err, &why) {
			t.Logf("%+v", why)
		}
		t.Fatal(err)
	}
	gw.Close()
	g := &Guard{}
	if err := g.load(c); err != nil {
		t.Fatalf("%+v", err)
	}
	g.Close()
}
