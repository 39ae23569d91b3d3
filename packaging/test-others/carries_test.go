package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// contestant is a CLAT whose abilities are looked at.
type contestant struct {
	name  string
	ours  bool                // it must carry everything
	start func(s *stage)      // returns before it has set up anything
	says  func(*stage) string // its version
}

// version of a package on the machine.
func version(s *stage, name string) string {
	return name + " " + s.machine.run(s.t, "dpkg-query", "-W", "-f", "${Version}", name)
}

func ours(engine string) contestant {
	return contestant{
		name: "tnat64d, " + engine + " engine", ours: true,
		start: func(s *stage) { s.start(fmt.Sprintf("[clat]\nengine = %q\n", engine)) },
		says: func(s *stage) string {
			status, err := s.daemon.Status(s.t.Context())
			if err != nil {
				s.t.Fatal(err)
			}
			return "tnat64d " + status.Version
		},
	}
}

var contestants = []contestant{
	ours("kernel"),
	ours("user"),
	{
		name: "NetworkManager", start: (*stage).networkManager,
		says: func(s *stage) string { return version(s, "network-manager") },
	},
	{
		name: "clatd + tayga", start: func(s *stage) {
			config := ""
			if len(s.Advert().PREF64) > 0 {
				config = fmt.Sprintf("plat-prefix=%s\n", s.Advert().PREF64[0].Prefix) // as its user would write
			}
			s.clatd(config)
		},
		says: func(s *stage) string { return version(s, "clatd") + ", " + version(s, "tayga") },
	},
}

// network is a network that a CLAT may work on or not.
type network struct {
	name    string
	options func() lab.Options
	without string // contestant that cannot be put on it in the lab
}

var deadFirst = netip.MustParsePrefix("2001:db8:dead::/96")

var networks = []network{
	{name: "network with PREF64 in router advertisements", options: func() lab.Options { return lab.Options{} }},
	{name: "network with DNS64 only", options: func() lab.Options { return lab.Options{NoPREF64: true, DNS: &lab.DNS{}} }},
	{name: "network whose first PREF64 does not answer", options: func() lab.Options {
		return lab.Options{PREF64: deadFirst, MorePREF64: []netip.Prefix{pref64}, DeadPREF64: []netip.Prefix{deadFirst}}
	}},
	// The lab's DHCPv6 client has the address there, not NetworkManager.
	{name: "network with one address for each host (/128)", options: func() lab.Options { return lab.Options{Kind: lab.DHCPv6Only} }, without: "NetworkManager"},
}

// load is something that programs send. try returns an error if it or its answer
// does not arrive.
type load struct {
	name string
	try  func(s *stage) error
}

// wait is how long an answer may take.
const wait = 2 * time.Second

var server4 = &net.UDPAddr{IP: lab.ServerIPv4.AsSlice(), Port: lab.PortEcho}

var loads = []load{
	{"TCP", func(s *stage) error {
		return s.Laptop.Do(func() error {
			c, err := net.DialTimeout("tcp4", server4.String(), wait)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(wait))
			if _, err := c.Write([]byte("hello")); err != nil {
				return err
			}
			_, err = io.ReadFull(c, make([]byte, 5))
			return err
		})
	}},
	{"UDP", func(s *stage) error { return s.datagram(lab.PortEcho, 500) }},
	{"ping", func(s *stage) error { return s.ping("56") }},
	{"datagram of 8 KB and its answer", func(s *stage) error { return s.datagram(lab.PortEcho, 8192) }},
	{"ping in fragments", func(s *stage) error { return s.ping("4000") }},
	{"IPv4 options", func(s *stage) error {
		return s.datagram(lab.PortEcho, 500, func(fd int) error {
			return unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, "\x01\x01\x01\x00")
		})
	}},
	{"ESP and its answer", func(s *stage) error { return s.protocol(50, esp()) }},
	{"GRE and its answer", func(s *stage) error { return s.protocol(47, gre()) }},
	{"SCTP and its answer", func(s *stage) error { return s.protocol(132, sctp()) }},
	{"UDP without checksum", func(s *stage) error {
		return s.datagram(lab.PortEcho, 500, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) })
	}},
	{"DSCP (EF)", (*stage).dscp},
}

// datagram sends a UDP datagram without DF and wants it back.
func (s *stage) datagram(port, size int, options ...func(fd int) error) error {
	return s.Laptop.Do(func() error {
		conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: server4.IP, Port: port})
		if err != nil {
			return err
		}
		defer conn.Close()
		options = append(options, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
		})
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		for _, set := range options {
			if ctlErr := raw.Control(func(fd uintptr) { err = set(int(fd)) }); ctlErr != nil || err != nil {
				return errors.Join(ctlErr, err)
			}
		}
		return exchange(conn, size)
	})
}

// exchange writes size bytes and wants them back.
func exchange(conn net.Conn, size int) error {
	conn.SetDeadline(time.Now().Add(wait))
	sent, back := make([]byte, size), make([]byte, size+1)
	for i := range sent {
		sent[i] = byte(i)
	}
	if _, err := conn.Write(sent); err != nil {
		return err
	}
	n, err := conn.Read(back)
	if err == nil && !slices.Equal(back[:n], sent) {
		err = errors.New("the answer has another content")
	}
	return err
}

func (s *stage) ping(size string) error {
	cmd := s.Laptop.Command(s.t.Context(), "ping", "-n", "-c", "1", "-W", "2", "-s", size, lab.ServerIPv4.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return err
}

// protocol sends a packet of an IP protocol to the server, which answers with the
// same content.
func (s *stage) protocol(number int, content []byte) error {
	network := fmt.Sprintf("ip4:%d", number)
	if number != 50 { // which the lab's server answers anyway
		var echo net.PacketConn
		err := s.Server.Do(func() (err error) {
			echo, err = net.ListenPacket(network, "0.0.0.0")
			return err
		})
		if err != nil {
			return err
		}
		var running sync.WaitGroup
		defer running.Wait()
		defer echo.Close()
		running.Go(func() {
			b := make([]byte, 2000)
			for {
				n, from, err := echo.ReadFrom(b)
				if err != nil {
					return
				}
				echo.WriteTo(b[:n], from)
			}
		})
	}
	return s.Laptop.Do(func() error {
		conn, err := net.ListenPacket(network, "0.0.0.0")
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(wait))
		if _, err := conn.WriteTo(content, &net.IPAddr{IP: server4.IP}); err != nil {
			return err
		}
		back := make([]byte, 2000)
		n, _, err := conn.ReadFrom(back)
		if err == nil && !slices.Equal(back[:n], content) {
			err = errors.New("the answer has another content")
		}
		return err
	})
}

// The content of packets that connection tracking, which clatd uses, takes for
// whole: ESP (RFC 4303), GRE with IPv4 (RFC 2784) and an INIT of SCTP (RFC 9260)
// between equal ports, so that its echo belongs to it.
func esp() []byte { return append([]byte{0, 0, 0x10, 0, 0, 0, 0, 1}, make([]byte, 100)...) }

func gre() []byte { return append([]byte{0, 0, 0x08, 0}, make([]byte, 100)...) }

func sctp() []byte {
	b := []byte{
		0x26, 0xab, 0x26, 0xab, 0, 0, 0, 0, 0, 0, 0, 0,
		1, 0, 0, 20, 0x12, 0x34, 0x56, 0x78, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1,
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// dscp wants the traffic class of a datagram to reach the server as it was sent.
func (s *stage) dscp() error {
	const ef = 0xb8
	var conn net.PacketConn
	err := s.Server.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", "0.0.0.0:4646")
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	got := make(chan error, 1)
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	if ctlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1) }); ctlErr != nil || err != nil {
		return errors.Join(ctlErr, err)
	}
	go func() {
		oob := make([]byte, 100)
		conn.SetReadDeadline(time.Now().Add(wait))
		_, n, _, _, err := conn.(*net.UDPConn).ReadMsgUDP(make([]byte, 100), oob)
		if err != nil {
			got <- err
			return
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err == nil && len(messages) == 1 && len(messages[0].Data) > 0 && messages[0].Data[0] != ef {
			err = fmt.Errorf("%#x was sent, %#x arrived", ef, messages[0].Data[0])
		}
		got <- err
	}()
	err = s.Laptop.Do(func() error {
		c, err := net.Dial("udp4", netip.AddrPortFrom(lab.ServerIPv4, 4646).String())
		if err != nil {
			return err
		}
		defer c.Close()
		if err := ipv4.NewConn(c).SetTOS(ef); err != nil {
			return err
		}
		_, err = c.Write([]byte("x"))
		return err
	})
	return errors.Join(err, <-got)
}

// attempts is how often something is tried before it counts as not carried: what a
// busy machine loses is no fault of the CLAT.
const attempts = 3

// TestCarries prints a table of what each CLAT carries, and on which networks it
// works at all. Ours must carry everything.
func TestCarries(t *testing.T) {
	needRoot(t)
	t.Parallel()
	var mu sync.Mutex
	answers := make(map[string]string) // by row and column
	versions := make(map[string]bool)
	note := func(row string, c contestant, err error) {
		mu.Lock()
		defer mu.Unlock()
		answers[row+c.name] = "yes"
		if err != nil {
			answers[row+c.name] = "no"
			t.Logf("%s, %s: %v", c.name, row, err)
			if c.ours {
				t.Errorf("%s does not carry: %s", c.name, row)
			}
		}
	}
	t.Run("contestants", func(t *testing.T) {
		for _, c := range contestants {
			for i, n := range networks {
				if n.without == c.name {
					answers[n.name+c.name] = "not run"
					continue
				}
				t.Run(c.name+"/"+n.name, func(t *testing.T) {
					t.Parallel()
					s := newStage(t, n.options())
					c.start(s)
					note(n.name, c, s.within(limit(c)))
					if i > 0 {
						return
					}
					mu.Lock()
					versions[c.says(s)] = true
					mu.Unlock()
					for _, l := range loads {
						var err error
						for range attempts {
							if err = l.try(s); err == nil {
								break
							}
						}
						note(l.name, c, err)
					}
				})
			}
		}
	})
	var rows []string
	for _, n := range networks {
		rows = append(rows, n.name)
	}
	for _, l := range loads {
		rows = append(rows, l.name)
	}
	var columns []string
	for _, c := range contestants {
		columns = append(columns, c.name)
	}
	t.Log("\n" + table(rows, columns, answers, versions))
}

// limit is how long a contestant may take until it carries anything.
func limit(c contestant) time.Duration {
	if c.ours {
		return 2 * patience
	}
	return patience
}

// within waits for an answered datagram.
func (s *stage) within(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		if s.datagram(lab.PortEcho, 10) == nil {
			return nil
		}
		time.Sleep(beat)
	}
	err := errSilent
	if s.daemon != nil {
		status, statusErr := s.daemon.Status(s.t.Context())
		err = errors.Join(err, statusErr)
		for _, u := range status.Uplinks {
			err = fmt.Errorf("%w: %s is %s: %s", err, u.Name, u.State, u.Why)
		}
	}
	return err
}

// table formats the answers, by row and column, for docs.
func table(rows, columns []string, answers map[string]string, versions map[string]bool) string {
	var b strings.Builder
	var all []string
	for v := range versions {
		all = append(all, v)
	}
	slices.Sort(all)
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	fmt.Fprintf(&b, "Run on %s, Linux %s: %s\n\n|", time.Now().Format(time.DateOnly), strings.TrimSpace(string(kernel)), strings.Join(all, "; "))
	for _, c := range columns {
		b.WriteString(" | " + c)
	}
	b.WriteString(" |\n|---" + strings.Repeat("|---", len(columns)) + "|\n")
	for _, row := range rows {
		b.WriteString("| " + row)
		for _, c := range columns {
			b.WriteString(" | " + answers[row+c])
		}
		b.WriteString(" |\n")
	}
	return b.String()
}
