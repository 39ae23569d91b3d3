package steer

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tnat64d/internal/cause"
)

// The kernel of a test that may load programs has what they need.
func TestTryBPF(t *testing.T) {
	needsRoot(t)
	if err := tryBPF(); err != nil {
		t.Error(err)
	}
}

// What the library calls unsupported, for whatever reason, is no refusal where
// the kernel can do it.
func TestCheckRefusal(t *testing.T) {
	needsRoot(t)
	for name, c := range map[string]struct {
		err  error
		want cause.Class
	}{
		"the library's word":       {fmt.Errorf("map create: %w", ebpf.ErrNotSupported), cause.Resource},
		"no descriptors":           {unix.EMFILE, cause.Resource},
		"both":                     {fmt.Errorf("%w: %w", ebpf.ErrNotSupported, unix.EMFILE), cause.Resource},
		"the kernel's word":        {unix.EINVAL, cause.Refused},
		"the verifier's":           {&ebpf.VerifierError{Cause: unix.E2BIG}, cause.Refused},
		"not permitted":            {unix.EPERM, cause.Refused},
		"something else":           {errors.New("something else"), cause.Other},
		"the interface is gone":    {unix.ENODEV, cause.Gone},
		"nothing":                  {nil, cause.Other},
		"a verifier out of memory": {&ebpf.VerifierError{Cause: unix.ENOMEM}, cause.Resource},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkRefusal(c.err)
			if got := cause.Of(err); got != c.want || !errors.Is(err, c.err) {
				t.Errorf("%v becomes %v, which is %s, want %s", c.err, err, got, c.want)
			}
		})
	}
}

func TestChargesMemlock(t *testing.T) {
	for release, want := range map[string]bool{
		"5.10.0-30-amd64": true, "4.19.0": true, "5.11.0": false, "5.15.0-91-generic": false,
		"6.1.0-18-amd64": false, "6.18.44": false, "strange": false,
	} {
		if got := chargesMemlock(release); got != want {
			t.Errorf("%s: %v, want %v", release, got, want)
		}
	}
}
