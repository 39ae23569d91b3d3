package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// flows returns what status says of the flows on the shared address, by table.
func (w *world) flows(t *testing.T) (by map[string]control.FlowTable, recovered uint64) {
	t.Helper()
	u, err := w.status(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	if u.CLAT == nil || u.CLAT.Flows == nil {
		t.Fatalf("status has no flows: %+v", u.CLAT)
	}
	by = map[string]control.FlowTable{}
	for _, table := range u.CLAT.Flows.Tables {
		by[table.Table] = table
	}
	return by, u.CLAT.Flows.Recovered
}

// pushed are connections to the lab's server by which the server sends first.
type pushed []struct {
	name         string
	here, beyond net.Conn
}

// udpPeer is the server's end of a UDP "connection".
type udpPeer struct {
	*net.UDPConn
	to net.Addr
}

func (u udpPeer) Write(b []byte) (int, error) { return u.WriteTo(b, u.to) }

// pushes connects the laptop by TCP and UDP over IPv4, and by TCP over IPv6.
func (w *world) pushes(t *testing.T) (all pushed) {
	t.Helper()
	const port = 4000
	var ln net.Listener
	var udp *net.UDPConn
	if err := w.Server.Do(func() (err error) {
		if ln, err = net.Listen("tcp4", fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
		udp, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close(); udp.Close() })
	for _, network := range []string{"tcp4", "tcp6", "udp4"} {
		to := service(port)
		if network == "tcp6" {
			to = native(port)
		}
		here, err := w.dialFrom(network, 0, to)
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		t.Cleanup(func() { here.Close() })
		var beyond net.Conn
		buf := make([]byte, 16)
		if network == "udp4" {
			var from net.Addr
			eventually(t, patience, func() error {
				udp.SetDeadline(time.Now().Add(resend))
				_, err := here.Write([]byte("hello"))
				if err == nil {
					_, from, err = udp.ReadFrom(buf)
				}
				return err
			})
			beyond = udpPeer{udp, from}
		} else if beyond, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		beyond.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { beyond.Close() })
		all = append(all, struct {
			name         string
			here, beyond net.Conn
		}{network, here, beyond})
	}
	// Both sides have sent, and the laptop after the server.
	all.push(t, "first")
	all.push(t, "second")
	return all
}

// resend is when a datagram without an answer is sent again: a busy machine may
// lose one.
const resend = 2 * time.Second

// push has the server send first, and the laptop answer.
func (p pushed) push(t *testing.T, text string) {
	t.Helper()
	for _, c := range p {
		buf := make([]byte, 64)
		for _, way := range [][2]net.Conn{{c.beyond, c.here}, {c.here, c.beyond}} {
			end := time.Now().Add(patience)
			for {
				way[0].SetDeadline(end)
				if _, err := way[0].Write([]byte(text)); err != nil {
					t.Fatalf("%s, %s: %v", c.name, text, err)
				}
				again := end
				if c.name == "udp4" {
					again = time.Now().Add(resend)
				}
				way[1].SetDeadline(again)
				n, err := way[1].Read(buf)
				for err == nil && c.name == "udp4" && string(buf[:n]) != text { // it was sent twice
					n, err = way[1].Read(buf)
				}
				if err == nil && string(buf[:n]) == text {
					break
				}
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
					t.Fatalf("%s: %q, %v, want %q", c.name, buf[:n], err, text)
				}
			}
		}
	}
}

var _ = addAct("scatter", func(args []string) (string, error) {
	to, err := netip.ParseAddr(args[0])
	if err != nil {
		return "", err
	}
	times, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	for range 2 {
		c, err := net.ListenUDP("udp", nil)
		if err != nil {
			return "", err
		}
		defer c.Close()
		for port := uint16(5000); port != 0; port++ {
			for range times {
				for try := 0; ; try++ {
					_, err := c.WriteToUDPAddrPort([]byte{1}, netip.AddrPortFrom(to, port))
					if err == nil || try == 1000 {
						break
					}
					time.Sleep(time.Millisecond)
				}
			}
		}
	}
	return "", nil
})

// TestHostileSharedFlood has a local user begin more flows than are remembered. It
// evicts no flow that is established, of either family.
func TestHostileSharedFlood(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, "", nil)
	conns := w.pushes(t)
	for _, to := range []string{server, lab.Synthesize(lab.WellKnownPrefix, lab.ServerIPv4).String()} {
		if out, err := w.asUser(t, "scatter", to, "1"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	conns.push(t, "after the flood")
	flows, _ := w.flows(t)
	if flows["established"].Evicted != 0 || flows["new"].Evicted == 0 || flows["host"].Evicted == 0 {
		t.Errorf("evicted: %+v", flows)
	}
	wants(t, w.ctl(t, "status"), "evicted from full tables")
	m, err := w.daemon.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if name := fmt.Sprintf("tnat64_shared_address_flows_evicted_total{table=\"new\",uplink=%q}", lab.Uplink); m[name] == 0 {
		t.Errorf("metric %s is %v", name, m[name])
	}
}

// TestHostileSharedMovedFlood has a local user flood the table of the host's own flows,
// with several datagrams in each flow. It ends no connection of another user over IPv6 that has
// another port on the wire, because an IPv4 connection had its port before.
func TestHostileSharedMovedFlood(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, "", nil)
	var conns [2]net.Conn
	for i, family := range []string{"4", "6"} {
		conns[i] = w.dialFamily(t, "tcp", family, 20001)
		// Silent during the flood.
		if err := conns[i].(*net.TCPConn).SetKeepAlive(false); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := roundTrip(conns[i], []byte("first")); err != nil {
				t.Fatalf("IPv%s: %v", family, err)
			}
		}
	}
	if flows, _ := w.flows(t); flows["host"].OtherPort != 1 || flows["established"].OtherPort != 0 {
		t.Fatalf("IPv6 has no other port on the wire: %+v", flows)
	}
	for range 3 { // the table may keep an old entry for longer than one
		if out, err := w.asUser(t, "scatter", lab.Synthesize(lab.WellKnownPrefix, lab.ServerIPv4).String(), "3"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for i, c := range conns {
		c.SetDeadline(time.Now().Add(patience))
		if err := roundTrip(c, []byte("after the flood")); err != nil {
			t.Errorf("connection %d after the flood: %v", i, err)
		}
	}
	flows, _ := w.flows(t)
	if flows["host"].OtherPort != 1 || flows["host"].Evicted == 0 {
		t.Errorf("host: %+v", flows["host"])
	}
	// It is no longer protected once it is closed.
	moved := w.daemonMap(t, "moved_flows")
	if n := entries(t, moved); n != 2 {
		t.Errorf("%d entries are protected, want both of one flow", n)
	}
	if err := conns[1].(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conns[1]); err != nil {
		t.Errorf("the end of the connection: %v", err)
	}
	eventually(t, patience, func() error {
		if n := entries(t, moved); n != 0 {
			return fmt.Errorf("%d entries of the closed connection are protected", n)
		}
		return nil
	})
}

// entries counts the entries of a table of flows.
func entries(t *testing.T, table *ebpf.Map) (n int) {
	t.Helper()
	key, value := make([]uint64, 3), make([]uint64, 3)
	all := table.Iterate()
	for all.Next(&key, &value) {
		n++
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// daemonMap opens the daemon's BPF map of that name.
func (w *world) daemonMap(t *testing.T, name string) *ebpf.Map {
	t.Helper()
	for _, object := range w.bpfObjects(t) {
		id, ok := strings.CutPrefix(object, "map_id:")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ebpf.NewMapFromID(ebpf.MapID(n))
		if err != nil {
			continue
		}
		if info, err := m.Info(); err == nil && info.Name == name {
			t.Cleanup(func() { m.Close() })
			return m
		}
		m.Close()
	}
	t.Fatalf("the daemon has no map %q", name)
	return nil
}

// TestHostileSharedEviction evicts all flows of the CLAT, as a local user could who
// has a server of his own outside and more flows to it than are remembered.
// Connections of the host's sockets go on, though it is the server that sends next.
func TestHostileSharedEviction(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newSharedWorld(t, config, nil)
		conns := w.pushes(t)
		w.evict(t, "established_flo", "new_flows")
		conns.push(t, "after the eviction")
		flows, recovered := w.flows(t)
		if recovered != 2 { // by IPv4: TCP and UDP
			t.Errorf("%d flows were recovered, want 2", recovered)
		}
		if flows["established"].Evicted < 2 || flows["established"].Flows != 2 {
			t.Errorf("established: %+v", flows["established"])
		}
	})
}

// elsewhere is a configuration in which a network is behind another prefix than PREF64.
const elsewhere = "\n[[clat.route]]\nnetwork = \"10.0.0.0/8\"\npref64 = \"2001:db8:c::/96\"\n"

// TestHostileSharedElsewhere is TestHostileSharedEviction and TestHostileSharedPortTheft
// where the CLAT does not talk with PREF64 only.
func TestHostileSharedElsewhere(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newSharedWorld(t, config+elsewhere, nil)
		conns := w.pushes(t)
		w.evict(t, "established_flo", "new_flows")
		conns.push(t, "after the eviction")
		eachPort(t, w.stealPort)
	})
}

// evict empties tables of flows.
func (w *world) evict(t *testing.T, tables ...string) {
	t.Helper()
	for _, name := range tables {
		m := w.daemonMap(t, name)
		var keys [][]uint64
		key, value := make([]uint64, 3), make([]uint64, 3)
		for all := m.Iterate(); all.Next(&key, &value); {
			keys = append(keys, slices.Clone(key))
		}
		for _, k := range keys {
			if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				t.Fatal(err)
			}
		}
	}
}

// TestHostileSharedPortTheft has a local user evict the flow of another one's
// connected socket, and then use its port for the other family towards the same
// server. What the server sends to the first socket does not reach the second.
func TestHostileSharedPortTheft(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newSharedWorld(t, config, nil)
		eachPort(t, w.stealPort)
	})
}

func (w *world) stealPort(t *testing.T, transport string, order [2]string, port int) {
	var conns [2]net.Conn
	for i, family := range order {
		conns[i] = w.dialFamily(t, transport, family, port)
		if err := roundTrip(conns[i], fmt.Appendf(nil, "first of IPv%s", family)); err != nil {
			t.Fatalf("IPv%s: %v", family, err)
		}
		if i == 0 {
			w.evict(t, "established_flo", "new_flows", "host_flows")
		}
	}
	for round := range 3 {
		for i, c := range conns {
			if err := roundTrip(c, fmt.Appendf(nil, "IPv%s, round %d", order[i], round)); err != nil {
				t.Fatalf("IPv%s, round %d: %v", order[i], round, err)
			}
		}
	}
}

// TestHostileSharedNeighbour has a neighbour scan the shared address, with sources
// behind PREF64. It begins no flow, and reaches no IPv4 socket, not even by a right
// guess of one end of a flow.
func TestHostileSharedNeighbour(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, "", nil)
	conns := w.pushes(t)
	own, err := w.LaptopAddress()
	if err != nil {
		t.Fatal(err)
	}
	port, next := w.datagramsTo(t, "udp4", "0.0.0.0:0")
	var ln net.Listener
	if err := w.Laptop.Do(func() (err error) {
		ln, err = net.Listen("tcp4", "0.0.0.0:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	before, _ := w.flows(t)
	b := w.neighbour(t)
	remote := lab.Synthesize(lab.WellKnownPrefix, lab.ServerIPv4)
	mac := w.uplinkMAC(t)
	send := func(from, to uint16, tcp bool) {
		t.Helper()
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: remote.AsSlice(), DstIP: own.AsSlice()}
		var l4 gopacket.SerializableLayer
		if tcp {
			ip.NextHeader = layers.IPProtocolTCP
			syn := &layers.TCP{SrcPort: layers.TCPPort(from), DstPort: layers.TCPPort(to), SYN: true, Window: 1000}
			syn.SetNetworkLayerForChecksum(ip)
			l4 = syn
		} else {
			datagram := &layers.UDP{SrcPort: layers.UDPPort(from), DstPort: layers.UDPPort(to)}
			datagram.SetNetworkLayerForChecksum(ip)
			l4 = datagram
		}
		buf := gopacket.NewSerializeBuffer()
		err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&layers.Ethernet{SrcMAC: b.MAC, DstMAC: mac, EthernetType: layers.EthernetTypeIPv6}, ip, l4, gopacket.Payload("scan"))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Send(buf.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	// The scan hits both sockets, and the ports of the flows from a wrong one.
	targets := []uint16{port, uint16(ln.Addr().(*net.TCPAddr).Port)}
	for _, c := range conns {
		switch a := c.here.LocalAddr().(type) {
		case *net.TCPAddr:
			targets = append(targets, uint16(a.Port))
		case *net.UDPAddr:
			targets = append(targets, uint16(a.Port))
		}
	}
	for _, to := range targets {
		for from := range uint16(200) {
			send(3000+from, to, false)
			send(3000+from, to, true)
		}
	}
	for to := range uint16(1000) {
		send(4000, 10000+to, true)
		send(4000, 10000+to, false)
	}
	conns.push(t, "after the scan")
	if got := next(time.Second); got != "" {
		t.Errorf("the IPv4 socket received %q", got)
	}
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(100 * time.Millisecond))
	if c, err := ln.Accept(); err == nil {
		t.Errorf("the IPv4 socket was connected to from %s", c.RemoteAddr())
	}
	after, recovered := w.flows(t)
	for table := range before {
		if after[table].Flows > before[table].Flows+1 || after[table].Evicted != 0 {
			t.Errorf("%s: %+v before the scan, %+v after it", table, before[table], after[table])
		}
	}
	if recovered != 0 {
		t.Errorf("the scan recovered %d flows", recovered)
	}
}
