package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"tnat64d/clat"
	"tnat64d/datapath/steer"
	"tnat64d/internal/say"
)

// lasting reports whether an error, as explain returned it, will not go away
// by itself.
func lasting(err error) bool {
	var f *say.Failure
	return errors.As(err, &f)
}

// refused reports whether the kernel refuses something that an administrator
// may grant while the daemon runs. It is retried, also before the first success:
// the daemon stays to tell the reason.
func refused(err error) bool {
	var r *clat.SteeringRefused
	return errors.As(err, &r)
}

// explain gives an error of a bring-up its hint, if it is of a kind that will
// not go away by itself. Others are returned as they are.
func explain(err error, tunName string) error {
	var known *say.Failure
	var steering *clat.SteeringRefused
	var bpf *steer.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &steering):
		hint := "allow one of the two: BPF needs CAP_BPF and no seccomp filter against bpf(2); nftables needs CAP_NET_ADMIN and the kernel modules nf_tables and nft_fwd_netdev"
		return &say.Failure{What: "packets cannot be steered", Hint: hint, Err: steering}
	case errors.As(err, &bpf):
		hint := "BPF needs Linux 5.10 with CONFIG_BPF_SYSCALL, CAP_BPF or CAP_SYS_ADMIN in the initial user namespace, and no seccomp filter against bpf(2)"
		return &say.Failure{What: "packets cannot be steered", Hint: hint, Err: errors.New(strings.TrimPrefix(bpf.Error(), "steer: "))}
	case errors.Is(err, clat.ErrIPv6Off):
		return &say.Failure{What: "the uplink cannot have a CLAT address", Hint: "switch IPv6 on: sysctl -w net.ipv6.conf.INTERFACE.disable_ipv6=0", Err: err}
	case errors.Is(err, fs.ErrExist):
		return tunNameTaken(tunName)
	case errors.Is(err, fs.ErrPermission):
		return &say.Failure{What: "the kernel refuses a step of the start", Hint: "run it as root, or by its systemd unit", Err: err}
	}
	return err
}

func tunNameTaken(name string) error {
	return &say.Failure{
		What: fmt.Sprintf("there is an interface %s already, and it is not ours", name),
		Hint: fmt.Sprintf("give the CLAT's interface another name (clat.tun), or remove it: ip link del %s", name),
	}
}

func alreadyRunning() error {
	return &say.Failure{
		What: clat.ErrRunning.Error(),
		Hint: "stop it first: systemctl stop tnat64d, or end the process that `pgrep -a tnat64d` shows",
	}
}
