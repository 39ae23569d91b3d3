package steer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// A program that the verifier refuses is no lack of rights, though the errno
// may be EACCES, and its log is for those who ask.
func TestRefusedProgram(t *testing.T) {
	needsRoot(t)
	_, cause := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "MIT",
		Instructions: asm.Instructions{asm.Mov.Reg(asm.R0, asm.R5), asm.Return()},
	})
	if !errors.Is(cause, os.ErrPermission) {
		t.Fatalf("not refused with EACCES: %v", cause)
	}
	err := fmt.Errorf("start: %w", &Error{"load the BPF programs", cause})
	if want := "start: steer: load the BPF programs: the kernel's BPF verifier refuses them"; err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
	if errors.Is(err, os.ErrPermission) {
		t.Error("says that rights are missing")
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal("not an *Error")
	}
	if brief := fmt.Sprintf("%v", e); strings.Contains(brief, "\n") {
		t.Errorf("%%v has more than a sentence: %s", brief)
	}
	if full := fmt.Sprintf("%+v", e); !strings.Contains(full, "R5 !read_ok") {
		t.Errorf("%%+v has no log: %s", full)
	}
}

func TestError(t *testing.T) {
	tests := []struct {
		err        *Error
		brief      string
		full       string
		permission bool
	}{
		{&Error{"do this", unix.EPERM}, "steer: do this: not permitted, CAP_BPF and CAP_NET_ADMIN are needed",
			"steer: do this: not permitted, CAP_BPF and CAP_NET_ADMIN are needed: operation not permitted", true},
		{&Error{"do that", io.EOF}, "steer: do that: EOF", "steer: do that: EOF", false},
	}
	for _, tt := range tests {
		if got := fmt.Sprintf("%v", tt.err); got != tt.brief {
			t.Errorf("%%v is %q, want %q", got, tt.brief)
		}
		if got := fmt.Sprintf("%+v", tt.err); got != tt.full {
			t.Errorf("%%+v is %q, want %q", got, tt.full)
		}
		if got := errors.Is(tt.err, os.ErrPermission); got != tt.permission {
			t.Errorf("%v: permission %v", tt.err, got)
		}
	}
}

// What a kernel without tcx gets, and why, for status.
func TestFallback(t *testing.T) {
	l := newLab(t)
	noTCX := func(hook) (io.Closer, error) { return nil, fmt.Errorf("tcx needs 6.6: %w", ebpf.ErrNotSupported) }
	broken := func(hook) (io.Closer, error) { return nil, unix.ENOMEM }
	for _, tt := range []struct {
		attach   Attach
		tcx      func(hook) (io.Closer, error)
		attached string // or
		err      error
	}{
		{Auto, noTCX, "clsact (tcx needs 6.6: not supported)", nil},
		{TCX, noTCX, "", ebpf.ErrNotSupported},
		{Auto, broken, "", unix.ENOMEM}, // not a reason to try something else
		{Clsact, broken, "clsact (as configured)", nil},
	} {
		s := loaded(t, true)
		s.netlink = l.laptop.nl
		err := l.laptop.try(func() error {
			return s.hooks.attach(s.netlink, tt.attach, []hook{{l.laptop.link(t, l.uplink), ingress, s.objects.UplinkIngress, "uplink_ingress"}}, tt.tcx)
		})
		if !errors.Is(err, tt.err) || err == nil && s.Attached() != tt.attached {
			t.Errorf("%v: attached %q, error %v, want %q, %v", tt.attach, s.Attached(), err, tt.attached, tt.err)
		}
		for _, h := range s.hooks.hooks {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
		s.hooks.hooks, s.netlink = nil, nil
		l.nothingLeft(t)
	}
}
