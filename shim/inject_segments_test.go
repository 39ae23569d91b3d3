package shim

import (
	"bytes"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The headers of several datagrams in one packet are right.
func TestSegmentsHeader(t *testing.T) {
	data := make([]byte, 2500)
	for _, c := range []struct {
		from, to netip.AddrPort
		ip, kind int
	}{{there4, here4, sizeofIPv4, unix.ETH_P_IP}, {there6, here6, sizeofIPv6, unix.ETH_P_IPV6}} {
		var b [sizeofVirtioNet + sizeofEthernet + maxHead]byte
		n := putSegments(b[:], c.from, c.to, data, 1000)
		if n != sizeofVirtioNet+sizeofEthernet+c.ip+sizeofUDP {
			t.Errorf("%d bytes of headers", n)
		}
		ip := append(b[sizeofVirtioNet+sizeofEthernet:n:n], data...)
		switch c.kind {
		case unix.ETH_P_IP:
			if h := header.IPv4(ip); !h.IsValid(len(h)) || !h.IsChecksumValid() || h.Protocol() != unix.IPPROTO_UDP {
				t.Errorf("IPv4 header % x", ip[:c.ip])
			}
		default:
			if h := header.IPv6(ip); !h.IsValid(len(h)) || h.TransportProtocol() != unix.IPPROTO_UDP {
				t.Errorf("IPv6 header % x", ip[:c.ip])
			}
		}
		if u := header.UDP(ip[c.ip:]); u.SourcePort() != 53 || u.DestinationPort() != 4000 || int(u.Length()) != sizeofUDP+len(data) {
			t.Errorf("UDP header % x", []byte(u[:sizeofUDP]))
		}
	}
}

// Several datagrams in one packet arrive in a namespace as a program wants them:
// one by one, or joined (UDP_GRO). Before Linux 6.2 the caller is told that nothing
// was sent.
func TestSegmentInjector(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: a network namespace")
	}
	runtime.LockOSThread() // until the thread ends: it is in another namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if err := setUp(1480); err != nil {
		t.Fatal(err)
	}
	s := openSegmentInjector()
	if s.fd < 0 {
		t.Fatal("it cannot be opened")
	}
	defer unix.Close(s.fd)
	data := make([]byte, 2500)
	for i := range data {
		data[i] = byte(i / 1000)
	}
	for _, c := range []struct {
		name   string
		family int
		to     unix.Sockaddr
		from   netip.AddrPort
	}{
		{"IPv4", unix.AF_INET, &unix.SockaddrInet4{Addr: hiddenIPv4.As4()}, there4},
		{"IPv6", unix.AF_INET6, &unix.SockaddrInet6{Addr: hiddenIPv6.As16()}, there6},
	} {
		for _, joined := range []int{0, 1} {
			fd, err := unix.Socket(c.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.Bind(fd, c.to); err != nil {
				t.Fatal(err)
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_UDP, udpGRO, joined); err != nil {
				t.Fatal(err)
			}
			name, err := unix.Getsockname(fd)
			if err != nil {
				t.Fatal(err)
			}
			if !s.send(c.from, addrPort(name), data, 1000) {
				t.Skip("this kernel takes no UDP GSO from packet sockets (Linux 6.2)")
			}
			want := []int{1000, 1000, 500}
			if joined == 1 {
				want = []int{2500}
			}
			got := data[:0:0]
			for _, size := range want {
				b := make([]byte, 4000)
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30})
				n, from, err := unix.Recvfrom(fd, b, 0)
				if err != nil || n != size || addrPort(from) != c.from {
					t.Fatalf("%s, joined %d: %d bytes, want %d, from %v: %v", c.name, joined, n, size, from, err)
				}
				got = append(got, b[:n]...)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%s, joined %d: other bytes", c.name, joined)
			}
		}
	}
}
