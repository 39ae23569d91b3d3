package e2e

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// detachPrograms detaches the BPF programs of an interface of a host, as a program
// with all capabilities can, and returns how many there were.
func (n *gatewayNet) detachPrograms(host, name string) int {
	n.t.Helper()
	type result struct {
		n   int
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // the thread ends with its namespace
		detached, err := detachPrograms("/run/netns/"+n.prefix+host, name)
		done <- result{detached, err}
	}()
	r := <-done
	if r.err != nil {
		n.t.Fatal(r.err)
	}
	return r.n
}

func detachPrograms(namespace, name string) (detached int, err error) {
	fd, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return 0, err
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		q, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: at})
		if err != nil {
			return detached, fmt.Errorf("list the programs of %s: %w", name, err)
		}
		for _, p := range q.Programs {
			id, ok := p.LinkID()
			if !ok {
				continue
			}
			l, err := link.NewFromID(id)
			if err != nil {
				return detached, err
			}
			err = l.Detach()
			l.Close()
			if err != nil {
				return detached, err
			}
			detached++
		}
	}
	return detached, nil
}

// What another program removes of the kernel engine is restored, with the maps.
func TestGatewayRestoresKernelEngine(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "engine = \"kernel\"\n")
	server := to("198.51.100.7")
	ping := func() { wants(t, n.in("c1", "ping -6 -n -c 1 -W 10 "+server), " 0% packet loss") }
	byKernel := func() bool {
		before, _ := n.translated("icmp")
		ping()
		after, _ := n.translated("icmp")
		return after-before == 2
	}
	ping() // the first packet makes the map
	if !byKernel() {
		t.Fatal("the kernel engine does not translate")
	}
	was := n.mapOf("2001:db8:1::11")

	const restoring = "another program has removed a part of the kernel engine"
	if n.usesTCX() {
		if got := n.detachPrograms("g", "nat64"); got != 2 {
			t.Fatalf("%d programs detached, want 2", got)
		}
	} else {
		n.in("g", "tc qdisc del dev nat64 clsact")
	}
	ping() // by user space
	eventually(t, soon, func() error {
		if !strings.Contains(n.log.String(), restoring) {
			return fmt.Errorf("the log does not say %q", restoring)
		}
		if !byKernel() {
			return fmt.Errorf("the kernel engine is not restored: %+v", n.status().Traffic)
		}
		return nil
	})
	if is := n.mapOf("2001:db8:1::11"); is != was {
		t.Errorf("the client had %s and has %s", was, is)
	}
	if s := n.status(); s.Engine != "kernel" {
		t.Errorf("engine %s: %s", s.Engine, s.EngineWhy)
	}
}

// usesTCX reports whether the programs of the gateway are attached by tcx, and not
// by a clsact qdisc.
func (n *gatewayNet) usesTCX() bool {
	return !strings.Contains(n.in("g", "tc qdisc show dev nat64"), "clsact")
}
