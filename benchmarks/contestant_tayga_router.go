package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"tnat64d/internal/lab"
)

// taygaRouter is Debian's tayga as the router's NAT64, set up as its manual page
// has it: an IPv4 address for each host, and masquerading behind.
type taygaRouter struct{ onRouter }

func (taygaRouter) id() string         { return "router-tayga" }
func (taygaRouter) title() string      { return "tayga + masquerade" }
func (taygaRouter) packages() []string { return []string{"tayga", "nftables"} }
func (taygaRouter) about() string {
	return "Debian's tayga, one process, as the router's NAT64, with a pool of IPv4 addresses and masquerading by nftables behind it"
}

func (taygaRouter) version(ctx context.Context) (string, error) { return packageVersion(ctx, "tayga") }

const (
	taygaPool = "192.168.255.0/24"
	taygaOwn  = "192.168.255.1"
)

func (c taygaRouter) start(ctx context.Context, l *lab.Lab, s setup) (*service, error) {
	path, err := exec.LookPath("tayga")
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(l.Dir, "tayga-router.conf")
	text := fmt.Sprintf("tun-device %s\nipv4-addr %s\nprefix %s\ndynamic-pool %s\ndata-dir %s\n", gatewayTUN, taygaOwn, gatewayPrefix, taygaPool, l.Dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	if err := c.wire(ctx, l, s.MTU); err != nil {
		return nil, errors.Join(err, c.undo(l))
	}
	cmd := l.Router.Command(context.WithoutCancel(ctx), path, "-d", "-c", conf)
	output := new(tail)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, c.undo(l))
	}
	exited := make(chan struct{})
	var waitErr error
	go func() {
		waitErr = cmd.Wait()
		close(exited)
	}()
	stop := func() error {
		killErr := cmd.Process.Kill()
		<-exited
		err := c.undo(l)
		if errors.Is(killErr, os.ErrProcessDone) { // it ended by itself
			err = errors.Join(waitErr, err)
		}
		return err
	}
	select {
	case <-exited: // it is not a daemon that says when it is ready
		return nil, errors.Join(fmt.Errorf("tayga ended at once: %s\n%s", cmd.ProcessState, output), stop())
	case <-time.After(100 * time.Millisecond):
	}
	return &service{target: gatewayTarget(), ipv4: true, pid: cmd.Process.Pid, exited: exited, output: output, stop: stop}, nil
}

// wire configures the router for tayga. The TUN is made before tayga starts: it
// reads the MTU then.
func (taygaRouter) wire(ctx context.Context, l *lab.Lab, mtu int) error {
	for _, args := range [][]string{
		{"tuntap", "add", "dev", gatewayTUN, "mode", "tun"},
		{"link", "set", "dev", gatewayTUN, "up", "mtu", fmt.Sprint(mtu)},
		{"route", "add", taygaPool, "dev", gatewayTUN},
		{"-6", "route", "add", gatewayPrefix.String(), "dev", gatewayTUN},
	} {
		if err := onHost(ctx, l.Router, "", "ip", args...); err != nil {
			return err
		}
	}
	return nftables(ctx, l, masquerade)
}

// undo takes back what wire did, as far as it came.
func (taygaRouter) undo(l *lab.Lab) error {
	err := dropMasquerade(l)
	if link, linkErr := l.Router.Netlink.LinkByName(gatewayTUN); linkErr == nil {
		err = errors.Join(err, l.Router.Netlink.LinkDel(link)) // its routes go with it
	}
	return err
}
