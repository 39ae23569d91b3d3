package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
	"tnat64d/internal/needs"
)

// The hostile tests (TestHostile..., `make test-hostile`) attack tnat64d from
// three sides: as a local user, as a station on the link, and by exhaustion.
// Their helpers are here:
//
//	w.asUser(t, "act", args...)    runs an act as an unprivileged user on the laptop
//	w.AddNeighbour(), frameTo(...) puts frames on the laptop's link
//	stage.how, Limits              starts tnat64d with little of something
//
// An act is a function of this test binary, by name in acts.

// nobody is the local user of the hostile tests.
const nobody = 65534

// actCommand is the first argument of a test binary that is to play an act.
const actCommand = "hostile-act"

// act is what a local user does. It returns what it found out, or why it could
// not do it.
type act func(args []string) (string, error)

// acts are the acts by name. Files with hostile tests add theirs from a
// variable declaration: var _ = addAct("name", f).
var acts = map[string]act{}

func addAct(name string, f act) bool {
	if acts[name] != nil {
		panic("two acts are called " + name)
	}
	acts[name] = f
	return true
}

// deed is how an act ended, as its process prints it.
type deed struct {
	Output string
	Error  string        // or ""
	Errno  syscall.Errno // within Error, or 0
}

// play runs the act args[0] and prints the deed.
func play(args []string, stdout io.Writer) int {
	var d deed
	f := acts[args[0]]
	if f == nil {
		fmt.Fprintf(os.Stderr, "there is no act %q\n", args[0])
		return 2
	}
	out, err := f(args[1:])
	d.Output = out
	if err != nil {
		d.Error = err.Error()
		errors.As(err, &d.Errno)
	}
	if json.NewEncoder(stdout).Encode(d) != nil {
		return 1
	}
	return 0
}

// actor is a copy of this test binary that everybody may run: the directory
// that the go tool runs it from is closed to other users.
var actor struct {
	once sync.Once
	path string
	err  error
}

func actorPath(t *testing.T) string {
	t.Helper()
	actor.once.Do(func() {
		actor.path = filepath.Join(binaries.dir, "actor")
		self, err := os.Open("/proc/self/exe")
		if err != nil {
			actor.err = err
			return
		}
		defer self.Close()
		to, err := os.OpenFile(actor.path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
		if err != nil {
			actor.err = err
			return
		}
		_, err = io.Copy(to, self)
		actor.err = errors.Join(err, to.Close())
	})
	if actor.err != nil {
		t.Fatal(actor.err)
	}
	return actor.path
}

// userCommand prepares an act of an unprivileged user: uid and gid 65534, no
// other group, no capability.
func (w *world) userCommand(t *testing.T, name string, args ...string) *lab.Cmd {
	t.Helper()
	cmd := w.Laptop.Command(t.Context(), actorPath(t), append([]string{actCommand, name}, args...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	return cmd
}

// asUser plays an act as an unprivileged user on the laptop, waits for its end,
// and returns what it printed. A refusal is an error that wraps the errno.
func (w *world) asUser(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	return w.asUserWith(t, nil, name, args...)
}

// asUserWith is asUser with open files, the first of which is descriptor 3.
func (w *world) asUserWith(t *testing.T, files []*os.File, name string, args ...string) (string, error) {
	t.Helper()
	cmd := w.userCommand(t, name, args...)
	cmd.ExtraFiles = files
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var d deed
	if err == nil {
		err = json.Unmarshal(out, &d)
	}
	if err != nil {
		t.Fatalf("act %s: %v\n%s", name, err, stderr.String())
	}
	switch {
	case d.Errno != 0:
		return d.Output, fmt.Errorf("%s: %w", d.Error, d.Errno)
	case d.Error != "":
		return d.Output, errors.New(d.Error)
	}
	return d.Output, nil
}

// frameTo returns an Ethernet frame from a neighbour to a MAC address, with
// the lengths and checksums of the layers filled in.
func frameTo(t *testing.T, from *lab.Neighbour, to net.HardwareAddr, content ...gopacket.SerializableLayer) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: from.MAC, DstMAC: to, EthernetType: layers.EthernetTypeIPv6}
	var network gopacket.NetworkLayer
	for _, l := range content {
		switch l := l.(type) {
		case *layers.IPv4:
			network, eth.EthernetType = l, layers.EthernetTypeIPv4
		case *layers.IPv6:
			network = l
		case *layers.ARP:
			eth.EthernetType = layers.EthernetTypeARP
		case interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}:
			if network != nil {
				if err := l.SetNetworkLayerForChecksum(network); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	all := append([]gopacket.SerializableLayer{eth}, content...)
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// udp6 are the layers of an IPv6 datagram.
func udp6(from, to netip.AddrPort, payload string) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{
		&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()},
		&layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())},
		gopacket.Payload(payload),
	}
}

// udp4 are the layers of an IPv4 datagram.
func udp4(from, to netip.AddrPort, payload string) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()},
		&layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())},
		gopacket.Payload(payload),
	}
}

// uplinkMAC is the MAC address of the laptop's uplink.
func (w *world) uplinkMAC(t *testing.T) net.HardwareAddr {
	t.Helper()
	link, err := w.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().HardwareAddr
}

// neighbour puts a station on the laptop's link.
func (w *world) neighbour(t *testing.T) *lab.Neighbour {
	t.Helper()
	n, err := w.AddNeighbour()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// datagramsTo opens a UDP socket on the laptop and returns a function that
// waits for the next datagram, "" if none comes within the limit.
func (w *world) datagramsTo(t *testing.T, network, addr string) (port uint16, next func(limit time.Duration) string) {
	t.Helper()
	var conn net.PacketConn
	err := w.Laptop.Do(func() (err error) {
		conn, err = net.ListenPacket(network, addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return at.Port(), func(limit time.Duration) string {
		buf := make([]byte, 2048)
		conn.SetReadDeadline(time.Now().Add(limit))
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return ""
		}
		return string(buf[:n])
	}
}

var (
	_ = addAct("who", func([]string) (string, error) {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return "", err
		}
		var who []string
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); f[0] == "Uid:" || f[0] == "CapEff:" || f[0] == "CapPrm:" || f[0] == "Groups:" {
				who = append(who, strings.Join(f, " "))
			}
		}
		return strings.Join(who, "\n"), nil
	})
	_ = addAct("remove-link", func(args []string) (string, error) {
		link, err := netlink.LinkByName(args[0])
		if err != nil {
			return "", err
		}
		return "", netlink.LinkDel(link)
	})
)

// TestHostileUser shows what the tests' local user is, and that he cannot
// remove the TUN.
func TestHostileUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	who, err := w.asUser(t, "who")
	if err != nil {
		t.Fatal(err)
	}
	wants(t, who, "Uid: 65534 65534 65534 65534", "CapEff: 0000000000000000", "CapPrm: 0000000000000000")
	if _, err := w.asUser(t, "remove-link", w.clat.TUN); !errors.Is(err, unix.EPERM) {
		t.Errorf("an unprivileged user removes %s: %v, want EPERM", w.clat.TUN, err)
	}
	w.page(t)
}

// TestHostileNeighbour shows that the tests' neighbour reaches the laptop, and
// that the CLAT address takes no datagrams from it.
func TestHostileNeighbour(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	b := w.neighbour(t)
	own, err := w.LaptopAddress()
	if err != nil {
		t.Fatal(err)
	}
	port, next := w.datagramsTo(t, "udp6", "[::]:0")
	from := netip.AddrPortFrom(b.Local, 4000)
	send := func(to netip.Addr, payload string) {
		t.Helper()
		if err := b.Send(frameTo(t, b, w.uplinkMAC(t), udp6(from, netip.AddrPortFrom(to, port), payload)...)); err != nil {
			t.Fatal(err)
		}
	}
	send(w.clat.IPv6, "to the CLAT address")
	eventually(t, stepTimeout, func() error {
		send(own, "to the laptop's address")
		if got := next(time.Second); got != "to the laptop's address" {
			return fmt.Errorf("received %q", got)
		}
		return nil
	})
	w.page(t)
}

// TestHostileExhaustion starts tnat64d with few descriptors.
func TestHostileExhaustion(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("prlimit")
	needs.That(t, err == nil, "the program prlimit")
	w := newWorldOn(t, stage{how: func(*lab.Lab) lab.DaemonOptions {
		return lab.DaemonOptions{Limits: []string{"nofile=128"}}
	}})
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", w.daemon.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max open files 128 128 files") {
		t.Errorf("the limits are\n%s", limits)
	}
	w.page(t)
}
