package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

var server = lab.ServerIPv4.String()

// service is a port of the server, for net.Dial.
func service(port uint16) string { return netip.AddrPortFrom(lab.ServerIPv4, port).String() }

// TestTraffic sends everything that the issue names through one CLAT.
func TestTraffic(t *testing.T) { eachSteering(t, testTraffic) }

func testTraffic(t *testing.T, config string) {
	w := newWorld(t, lab.Options{}, config)
	t.Run("page", w.page)
	t.Run("download", func(t *testing.T) { w.download(t, size(1<<30)) })
	t.Run("upload", func(t *testing.T) { w.upload(t, size(256<<20)) })
	t.Run("ping", func(t *testing.T) {
		w.pings(t, 3)
	})
	t.Run("ping fragmented", w.pingFragmented)
	t.Run("traceroute UDP", func(t *testing.T) { w.traceroute(t) })
	t.Run("traceroute ICMP", func(t *testing.T) { w.traceroute(t, "-I") })
	t.Run("iperf3 TCP up", func(t *testing.T) { w.iperf(t) })
	t.Run("iperf3 TCP down", func(t *testing.T) { w.iperf(t, "-R") })
	t.Run("iperf3 UDP up", func(t *testing.T) { w.iperf(t, "-u", "-b", udpRate()) })
	t.Run("iperf3 UDP down", func(t *testing.T) { w.iperf(t, "-u", "-b", udpRate(), "-R") })
	t.Run("DNS", w.dig)
	t.Run("UDP", w.datagrams)
	t.Run("UDP bursts", w.bursts)
	t.Run("ESP", w.esp)
	t.Run("port unreachable", w.refused)
	// Last, for their end is a burst that may drown a datagram.
	t.Run("2000 connections", w.connections)
}

func (w *world) page(t *testing.T) {
	wants(t, w.laptop(t, "curl", "-sS", url("/")), lab.Greeting, "you are 203.0.113.")
}

// download gets n bytes with curl and looks at every one of them.
func (w *world) download(t *testing.T, n int64) {
	needProgram(t, "curl")
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	defer cancel()
	curl := w.Laptop.Command(ctx, "curl", "-sS", url(fmt.Sprintf("/bytes/%d", n)))
	curl.Env, curl.Stderr = lab.WithoutProxies(os.Environ()), os.Stderr
	body, err := curl.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := curl.Start(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lab.Downloaded(body, n), curl.Wait()); err != nil {
		t.Error(err)
	}
}

// upload posts n bytes with curl; the server says how many it got.
func (w *world) upload(t *testing.T, n int64) {
	needProgram(t, "curl")
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	defer cancel()
	curl := w.Laptop.Command(ctx, "curl", "-sS", "-X", "POST", "-H", "Expect:", "-T", "-", url("/"))
	curl.Env, curl.Stderr = lab.WithoutProxies(os.Environ()), os.Stderr
	curl.Stdin = io.LimitReader(zeros{}, n)
	out, err := curl.Output()
	if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(n) {
		t.Errorf("the server got %q bytes of %d, %v", out, n, err)
	}
}

// zeros is /dev/zero.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// pingFragmented sends echo requests larger than any link: both they and the
// replies travel in fragments. The largest, of 65,507 bytes, fill an IPv4 packet.
func (w *world) pingFragmented(t *testing.T) {
	w.pings(t, 3, "-s", "4000")
	for _, size := range []string{"65481", "65507"} {
		w.pings(t, 2, "-s", size)
	}
}

// traceroute expects every hop: tnat64d itself, the router, which has no IPv4
// address to answer from, its NAT64, and the IPv4 routers behind. It waits for
// each of them: traceroute's own time-outs follow the fastest hop.
func (w *world) traceroute(t *testing.T, args ...string) {
	out := w.laptop(t, "traceroute", append([]string{"-n", "-q", "1", "-w", "20,0,0"}, append(args, server)...)...)
	var path []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 && f[0] != "traceroute" {
			path = append(path, f[1])
		}
	}
	want := []string{"192.0.0.2", "192.0.0.8", lab.PLATIPv4.String(), lab.RouterIPv4.String(), lab.ISPIPv4.String(), server}
	if !slices.Equal(path, want) {
		t.Errorf("hops are %v, not %v:\n%s", path, want, out)
	}
}

// iperf runs iperf3. Of datagrams most must arrive; while the machine is busy
// with something else the socket of a receiver that does not run loses some, so
// there are three attempts.
func (w *world) iperf(t *testing.T, args ...string) {
	lost := 0.0
	for range 3 {
		if lost = w.iperfOnce(t, args...); lost <= 10 {
			return
		}
		t.Logf("%.1f %% of the datagrams are lost", lost)
	}
	t.Errorf("%.1f %% of the datagrams are lost, three times", lost)
}

// iperfOnce runs iperf3 against a server started for the occasion and returns
// how many of the datagrams are lost, in percent; of TCP none are.
func (w *world) iperfOnce(t *testing.T, args ...string) (lost float64) {
	t.Helper()
	needProgram(t, "iperf3")
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	defer cancel()
	srv := w.Server.Command(ctx, "iperf3", "-s", "-1")
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { srv.Process.Kill(); srv.Wait() }()
	eventually(t, soon, func() error { return w.Server.Listening(5201) })

	out := w.laptop(t, "iperf3", append([]string{"-c", server, "-t", "2", "-J"}, args...)...)
	var report struct {
		End struct {
			Received struct {
				Bytes int64   `json:"bytes"`
				Rate  float64 `json:"bits_per_second"`
			} `json:"sum_received"`
			Sum struct {
				Bytes int64   `json:"bytes"`
				Rate  float64 `json:"bits_per_second"`
				Lost  float64 `json:"lost_percent"`
			} `json:"sum"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	end := report.End
	t.Logf("iperf3 %s: %.2f Gbit/s", strings.Join(args, " "), max(end.Received.Rate, end.Sum.Rate)/1e9)
	if max(end.Received.Bytes, end.Sum.Bytes) == 0 {
		t.Errorf("nothing arrived:\n%s", out)
	}
	return end.Sum.Lost
}

// dig asks over UDP and TCP; the long answer comes in fragments, or makes dig
// turn to TCP.
func (w *world) dig(t *testing.T) {
	ask := func(args ...string) string {
		return w.laptop(t, "dig", append([]string{"+tries=1", "+time=20", "@" + server}, args...)...)
	}
	wants(t, ask(lab.NameServer), "ANSWER: 1", server, "(UDP)")
	wants(t, ask("+tcp", lab.NameServer), "ANSWER: 1", server, "(TCP)")
	wants(t, ask("+bufsize=4096", "+ignore", lab.NameBig, "TXT"), "ANSWER: 1", "(UDP)")
	wants(t, ask("+bufsize=512", lab.NameBig, "TXT"), "Truncated, retrying in TCP mode", "ANSWER: 1", "(TCP)")
}

// connections holds 2,000 TCP connections at once and uses each of them.
func (w *world) connections(t *testing.T) {
	const number, dialers = 2000, 8
	conns := make([]net.Conn, number)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	var group sync.WaitGroup
	for d := range dialers {
		group.Go(func() {
			err := w.Laptop.Do(func() error {
				for i := d; i < number; i += dialers {
					c, err := net.DialTimeout("tcp4", service(lab.PortEcho), patience)
					if err != nil {
						return fmt.Errorf("connection %d: %w", i, err)
					}
					conns[i] = c
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	for i, c := range conns {
		group.Go(func() {
			c.SetDeadline(time.Now().Add(patience))
			if err := roundTrip(c, fmt.Appendf(nil, "this is connection %d", i)); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	group.Wait()
}

// roundTrip sends data to an echo service and wants it back.
func roundTrip(c net.Conn, data []byte) error {
	if _, err := c.Write(data); err != nil {
		return err
	}
	back := make([]byte, len(data))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if !slices.Equal(back, data) {
		return errors.New("the echo is not what was sent")
	}
	return nil
}

// datagrams sends UDP that is fragmented on the way there and back because DF
// is clear, and UDP without checksum.
func (w *world) datagrams(t *testing.T) { w.datagramsAgain(t, patience) }

// datagramsAgain is datagrams on a link that loses packets by itself: each datagram is
// sent again after so long without an answer.
func (w *world) datagramsAgain(t *testing.T, again time.Duration) {
	for _, c := range []struct {
		name       string
		port       uint16
		size       int
		noChecksum int
	}{
		{"small", lab.PortEcho, 20, 0},
		{"empty", lab.PortEcho, 0, 0},
		{"8 KB in fragments", lab.PortEcho, 8192, 0},
		{"60 KB in fragments", lab.PortEcho, 60000, 0},
		{"no checksum out", lab.PortEcho, 20, 1},
		{"no checksum back", lab.PortEchoNoChecksum, 20, 0},
		{"no checksum at all", lab.PortEchoNoChecksum, 1200, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var conn net.Conn
			err := w.Laptop.Do(func() (err error) {
				conn, err = net.Dial("udp4", service(c.port))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			raw, err := conn.(*net.UDPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) {
				err = errors.Join(
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, c.noChecksum),
					unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT),
				)
			})
			if err != nil {
				t.Fatal(err)
			}
			sent, back := pattern(c.size), make([]byte, 1<<16)
			n := 0
			for end := time.Now().Add(patience); ; {
				if _, err = conn.Write(sent); err != nil {
					t.Fatal(err)
				}
				conn.SetReadDeadline(time.Now().Add(again))
				if n, err = conn.Read(back); !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
					break
				}
			}
			if err != nil || !slices.Equal(back[:n], sent) {
				t.Errorf("%d bytes sent, %d came back, %v", c.size, n, err)
			}
		})
	}
}

// esp sends IP packets of protocol 50, as IPsec without UDP does.
func (w *world) esp(t *testing.T) {
	var conn net.PacketConn
	err := w.Laptop.Do(func() (err error) {
		conn, err = net.ListenPacket("ip4:50", "0.0.0.0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	sent := pattern(500)
	if _, err := conn.WriteTo(sent, &net.IPAddr{IP: lab.ServerIPv4.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 1500)
	n, from, err := conn.ReadFrom(back)
	if err != nil || !slices.Equal(back[:n], sent) || from.String() != server {
		t.Errorf("%d bytes came back from %v, %v", n, from, err)
	}
}

// refused finds that nobody listens: an ICMPv4 error of the server crosses both
// translators and reaches the socket it is about.
func (w *world) refused(t *testing.T) {
	var conn net.Conn
	err := w.Laptop.Do(func() (err error) {
		conn, err = net.Dial("udp4", service(9))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 10)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("read: %v, not %v", err, unix.ECONNREFUSED)
	}
}

// TestLinkMTU has links smaller than Ethernet on either side of the PLAT.
func TestLinkMTU(t *testing.T) { eachSteering(t, testLinkMTU) }

func testLinkMTU(t *testing.T, config string) {
	for _, c := range []struct {
		name string
		o    lab.Options
		path int // the IPv4 path MTU that a program is told
	}{
		{"1400 beyond the PLAT", lab.Options{MTUISP: 1400}, 1400},
		{"1280 before it", lab.Options{MTU: 1280}, 1260},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.o, config)
			t.Run("page", w.page)
			t.Run("download", func(t *testing.T) { w.download(t, size(100<<20)) })
			t.Run("upload", func(t *testing.T) { w.upload(t, size(100<<20)) })
			t.Run("UDP", w.datagrams)
			t.Run("ping fragmented", w.pingFragmented)
			t.Run("path MTU", func(t *testing.T) { w.pathMTU(t, c.path) })
		})
	}
}

// pathMTU has ping learn the IPv4 path MTU from an ICMP error or from the kernel.
func (w *world) pathMTU(t *testing.T, mtu int) {
	out, err := w.try(t, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "30", "-M", "do", "-s", "1450", server)
	if err == nil {
		t.Errorf("a packet larger than the link passed:\n%s", out)
	}
	wants(t, strings.ReplaceAll(out, "mtu = ", "mtu="), fmt.Sprintf("mtu=%d", mtu))
}

// TestPREF64Lengths changes the network's PREF64 under a running tnat64d, to
// each length of prefix, by Router Advertisement.
func TestPREF64Lengths(t *testing.T) { eachSteering(t, testPREF64Lengths) }

func testPREF64Lengths(t *testing.T, config string) {
	w := newWorld(t, lab.Options{}, config)
	for _, bits := range []int{32, 40, 48, 56, 64, 96} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			p, err := lab.PREF64OfLength(bits)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.SetPREF64(p); err != nil {
				t.Fatal(err)
			}
			// Packets pass before a new CLAT address is out of duplicate address
			// detection, and the change of addresses ends flows once more.
			w.wantPREF64(t, p)
			t.Run("ping fragmented", w.pingFragmented)
			t.Run("UDP", w.datagrams)
		})
	}
}

// size is n, or less of it in short mode, which is for slow machines.
func size(n int64) int64 {
	if testing.Short() {
		return n / 16
	}
	return n
}

func udpRate() string {
	if testing.Short() {
		return "2M"
	}
	return "10M"
}
