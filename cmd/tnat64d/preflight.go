package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/internal/config"
	"tnat64d/internal/say"
)

// checkProcess refuses to start where it cannot succeed, before anything is
// touched.
func checkProcess(c config.Config) error {
	if c.CLAT.Enable == config.Never {
		return nil
	}
	if err := checkCapabilities(c.CLAT.Engine == config.EngineKernel); err != nil {
		return err
	}
	return checkTUNDevice()
}

// checkCapabilities looks for the rights without which no CLAT can run. Router
// advertisements can be had without CAP_NET_RAW. BPF may be granted later,
// unless the configuration insists on the kernel engine.
func checkCapabilities(bpf bool) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	has := func(c int) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	var missing []string
	if !has(unix.CAP_NET_ADMIN) {
		missing = append(missing, "CAP_NET_ADMIN")
	}
	if !has(unix.CAP_BPF) && !has(unix.CAP_SYS_ADMIN) {
		missing = append(missing, "CAP_BPF")
	}
	if has(unix.CAP_NET_ADMIN) && (!bpf || len(missing) == 0) {
		return nil
	}
	return &say.Failure{
		What: "no permission to change the network of this host: " + strings.Join(missing, " and ") + " missing",
		Hint: "run it as root, or by its systemd unit",
	}
}

const tunDevice = "/dev/net/tun"

// checkTUNDevice opens the device that makes TUN interfaces. That alone
// makes none.
func checkTUNDevice() error {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case err == nil:
		unix.Close(fd)
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return &say.Failure{What: "there is no " + tunDevice, Hint: "load the TUN driver: modprobe tun; a container must be given the device"}
	}
	return &say.Failure{What: "cannot open " + tunDevice, Hint: "a container or systemd unit must be allowed to use the device (DeviceAllow=" + tunDevice + " rw)", Err: err}
}

// checkHost refuses to start when the host contradicts the configuration.
// What may still appear, such as a route or a configured uplink, is waited for
// instead. inherited are the TUNs that are ours. The error is clat.ErrRunning if
// another process has a TUN.
func checkHost(c config.Config, o plan.Observed, inherited []clat.Inherited) error {
	for _, l := range o.Links {
		switch {
		case slices.ContainsFunc(inherited, func(t clat.Inherited) bool { return t.Index == l.Index }):
		case strings.HasPrefix(l.Alias, plan.AliasPrefix):
			return alreadyRunning() // one with another runtime directory, as in a container
		case l.Name == c.CLAT.TUN && c.CLAT.Enable != config.Never:
			return tunNameTaken(c.CLAT.TUN)
		}
	}
	return nil
}
