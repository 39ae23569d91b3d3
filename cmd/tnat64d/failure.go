package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"tnat64d/clat"
	"tnat64d/clat/steer"
)

// failure is an error with a sentence for people and what to do about it.
type failure struct {
	what string
	hint string
	err  error // may be nil
}

func (f *failure) Error() string {
	if f.err != nil {
		return fmt.Sprintf("%s: %v", f.what, f.err)
	}
	return f.what
}

func (f *failure) Unwrap() error { return f.err }

// sayFailure writes what ended the daemon: one sentence, and a hint.
func sayFailure(w io.Writer, err error) {
	fmt.Fprintf(w, "tnat64d: %v\n", err)
	var f *failure
	if errors.As(err, &f) {
		fmt.Fprintf(w, "hint: %s\n", f.hint)
	}
}

// explain gives an error of a bring-up its hint, if it is of a kind that will
// not go away by itself. Others are returned as they are.
func explain(err error, tunName string) error {
	var known *failure
	var bpf *steer.Error
	var forwarding *clat.ForwardingRefused
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &forwarding):
		hint := "allow one of the two: BPF needs CAP_BPF and no seccomp filter against bpf(2); forwarding needs /proc/sys/net to be writable, and the runtime directory for a journal"
		return &failure{what: "packets can be neither steered nor forwarded", hint: hint, err: forwarding}
	case errors.As(err, &bpf):
		hint := "BPF needs Linux 5.10 with CONFIG_BPF_SYSCALL, CAP_BPF or CAP_SYS_ADMIN in the initial user namespace, and no seccomp filter against bpf(2)"
		return &failure{what: "packets cannot be steered", hint: hint, err: errors.New(strings.TrimPrefix(bpf.Error(), "steer: "))}
	case errors.Is(err, clat.ErrIPv6Off):
		return &failure{what: "the uplink cannot have a CLAT address", hint: "switch IPv6 on: sysctl -w net.ipv6.conf.INTERFACE.disable_ipv6=0", err: err}
	case errors.Is(err, fs.ErrExist):
		return tunNameTaken(tunName)
	case errors.Is(err, fs.ErrPermission):
		return &failure{what: "the kernel refuses a step of the start", hint: "run it as root, or by its systemd unit", err: err}
	}
	return err
}

func tunNameTaken(name string) error {
	return &failure{
		what: fmt.Sprintf("there is an interface %s already, and it is not ours", name),
		hint: fmt.Sprintf("give the CLAT's interface another name (clat.tun), or remove it: ip link del %s", name),
	}
}

func alreadyRunning() error {
	return &failure{
		what: clat.ErrRunning.Error(),
		hint: "stop it first: systemctl stop tnat64d, or end the process that `pgrep -a tnat64d` shows",
	}
}
