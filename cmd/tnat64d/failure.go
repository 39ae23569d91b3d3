package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/datapath/steer"
	"tnat64d/internal/cause"
	"tnat64d/internal/say"
)

// lasting reports whether an error, as explain returned it, will not go away
// by itself.
func lasting(err error) bool {
	var f *say.Failure
	return errors.As(err, &f)
}

// mayPass reports whether an error is worth to wait for its end, also before the
// first success: too little of something is left, or the kernel refuses what an
// administrator may grant. The daemon stays to tell the reason.
func mayPass(err error) bool {
	var refused *clat.SteeringRefused
	return errors.As(err, &refused) || cause.Of(err) == cause.Resource
}

// explain returns the reason for an error of a bring-up, and the error with its
// hint if it is of a kind that will not go away by itself. Others are returned as
// they are.
func explain(err error, tunName string) (plan.Reason, error) {
	var known *say.Failure
	var steering *clat.SteeringRefused
	var bpf *steer.Error
	switch {
	case errors.As(err, &known):
		return plan.StepFailed, known
	case cause.Of(err) == cause.Resource:
		return plan.NoResources, &say.Failure{What: "the kernel is short of resources", Hint: resourceHint(err), Err: err}
	case errors.As(err, &steering) && steering.Sharing:
		hint := "allow BPF: it needs CAP_BPF and no seccomp filter against bpf(2); or set clat.ipv6 to an address that is routed to this host and that it does not use"
		return plan.SharingRefused, &say.Failure{What: "packets cannot be steered", Hint: hint, Err: steering}
	case errors.As(err, &steering):
		hint := "allow one of the two: BPF needs CAP_BPF and no seccomp filter against bpf(2); nftables needs CAP_NET_ADMIN and the kernel modules nf_tables and nft_fwd_netdev"
		return plan.SteeringRefused, &say.Failure{What: "packets cannot be steered", Hint: hint, Err: steering}
	case errors.As(err, &bpf):
		hint := "BPF needs Linux 5.10 with CONFIG_BPF_SYSCALL, CAP_BPF or CAP_SYS_ADMIN in the initial user namespace, and no seccomp filter against bpf(2)"
		return plan.SteeringRefused, &say.Failure{What: "packets cannot be steered", Hint: hint, Err: errors.New(bpf.Reason())}
	case errors.Is(err, plan.ErrIPv6Off):
		return plan.IPv6Disabled, &say.Failure{What: "the uplink cannot have a CLAT address", Hint: "switch IPv6 on: sysctl -w net.ipv6.conf.INTERFACE.disable_ipv6=0", Err: err}
	case errors.Is(err, fs.ErrExist):
		return plan.InterfaceNameTaken, tunNameTaken(tunName)
	case errors.Is(err, fs.ErrPermission):
		return plan.NotPermitted, &say.Failure{What: "the kernel refuses a step of the start", Hint: "run it as root, or by its systemd unit", Err: err}
	}
	return plan.StepFailed, err
}

func resourceHint(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE):
		return fmt.Sprintf("allow the process more files: prlimit --pid %d --nofile=1024, or LimitNOFILE= in its systemd unit", os.Getpid())
	case errors.Is(err, unix.ENFILE):
		return "allow this machine more files: sysctl fs.file-max"
	}
	return "give the process, or its control group, more memory"
}

func tunNameTaken(name string) error {
	return &say.Failure{
		What: fmt.Sprintf("interface %s exists already and belongs to another program", name),
		Hint: fmt.Sprintf("give the CLAT's interface another name (clat.tun), or remove it: ip link del %s", name),
	}
}

func alreadyRunning() error {
	return &say.Failure{
		Err:  clat.ErrRunning,
		Hint: "stop it first: systemctl stop tnat64d, or end the process that `pgrep -a tnat64d` shows",
	}
}
