package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pppWithin is how long two pppd may take to agree, on a busy machine.
const pppWithin = 30 * time.Second

// pppQueue is the queue length of an Ethernet interface, in packets. That of PPP is 3,
// and a datagram of 60 KB has 45 fragments.
const pppQueue = 1000

// dialPPP makes a PPP link between two ends: a pppd on each, connected by pipes in the
// place of a serial line. It returns when the link is up. The link lasts as long as
// the lab.
func (l *Lab) dialPPP(laptop, router end) error {
	if _, err := os.Stat("/dev/ppp"); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: the kernel has no PPP (there is no /dev/ppp)", errors.ErrUnsupported)
	}
	var read, write [2]*os.File
	for i := range read {
		var err error
		if read[i], write[i], err = os.Pipe(); err != nil {
			return err
		}
		defer read[i].Close()
		defer write[i].Close()
	}
	ids := [2]string{"::10,::1", "::1,::10"} // interface identifiers: its own, the peer's
	for i, e := range [2]end{laptop, router} {
		log, err := os.Create(filepath.Join(l.Dir, "pppd-"+e.host.Name+".log"))
		if err != nil {
			return err
		}
		defer log.Close()
		cmd := e.host.Command(l.life, "pppd", "notty", "nodetach", "local", "nocrtscts", "noauth", "noip", "noccp",
			"lcp-echo-interval", "0", "ifname", e.ifname, "ipv6", ids[i])
		cmd.Stdin, cmd.Stdout, cmd.Stderr = read[i], write[1-i], log
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start pppd on %s: %w", e.host.Name, err)
		}
		go cmd.Wait()
	}
	ctx, cancel := context.WithTimeout(l.life, pppWithin)
	defer cancel()
	for _, e := range [2]end{laptop, router} {
		if err := e.waitLinkLocal(ctx); err != nil {
			words, _ := os.ReadFile(filepath.Join(l.Dir, "pppd-"+e.host.Name+".log"))
			return fmt.Errorf("%w; pppd says: %s", err, strings.TrimSpace(string(words)))
		}
		if err := e.host.setQueueLength(e.ifname, pppQueue); err != nil {
			return err
		}
	}
	return nil
}

// waitLinkLocal waits until the interface of an end exists and has the link-local
// address that IPv6CP gives it.
func (e end) waitLinkLocal(ctx context.Context) error {
	for {
		addrs, err := e.host.Addresses(e.ifname)
		for _, a := range addrs {
			if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s:%s does not come up: %w", e.host.Name, e.ifname, errors.Join(context.Cause(ctx), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
