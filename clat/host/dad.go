package host

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
	"tnat64d/siit"
)

// detections are duplicate address detections (RFC 4862 section 5.4) of addresses
// that their links do not have yet, by interface index.
type detections struct{ all map[int]*detection }

// detection is one of them. It is driven by calls of [detections.Detect]: the
// socket holds what arrives in between.
type detection struct {
	addr   netip.Addr
	socket int // raw ICMPv6, in the solicited-node multicast group of addr
	link   int
	nonce  nonce
	left   int // solicitations to be sent
	every  time.Duration
	due    time.Time // of the next solicitation, or of the end
	inUse  bool      // another node has the address
}

// nonce identifies our own solicitations if the link returns them (RFC 7527).
type nonce [6]byte

// maxDetectionDelay bounds the random delay before the solicited-node multicast
// group is joined (RFC 4862 section 5.4.2). It is shorter than
// MAX_RTR_SOLICITATION_DELAY, which delays the host's own address.
const maxDetectionDelay = 200 * time.Millisecond

// Detect begins or continues the detection of a on a link, which ends that of any
// other address there. It returns after how long to call it again, or 0 if no other
// node has answered for as long as the kernel waits for its own addresses. An
// address of another node is [plan.ErrAddrInUse]. Until EndDetect a claim of another
// node is noticed.
func (d *detections) Detect(link int, name string, a netip.Addr) (wait time.Duration, err error) {
	one := d.all[link]
	if one != nil && one.addr != a {
		d.EndDetect(link)
		one = nil
	}
	if one == nil {
		if one, err = newDetection(link, name, a); err != nil {
			return 0, fmt.Errorf("duplicate address detection of %s: %w", a, err)
		}
		if d.all == nil {
			d.all = map[int]*detection{}
		}
		d.all[link] = one
	}
	if err := one.step(time.Now()); err != nil {
		return 0, err
	}
	if one.left > 0 {
		return max(time.Until(one.due), time.Millisecond), nil
	}
	return max(time.Until(one.due), 0), nil
}

// EndDetect ends the detection on a link, if there is one.
func (d *detections) EndDetect(link int) {
	if one := d.all[link]; one != nil {
		unix.Close(one.socket)
		delete(d.all, link)
	}
}

func newDetection(link int, name string, a netip.Addr) (_ *detection, err error) {
	d := &detection{addr: a, link: link, due: time.Now().Add(mathrand.N(maxDetectionDelay))}
	if d.left, err = readNumber("conf", name, "dad_transmits"); err != nil {
		return nil, err
	}
	ms, err := readNumber("neigh", name, "retrans_time_ms")
	if err != nil {
		return nil, err
	}
	d.left, d.every = max(d.left, 1), time.Duration(max(ms, 1))*time.Millisecond
	if _, err := rand.Read(d.nonce[:]); err != nil {
		return nil, err
	}
	d.socket, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := d.prepare(name); err != nil {
		unix.Close(d.socket)
		return nil, err
	}
	return d, nil
}

// readNumber reads a sysctl of IPv6 on a link.
func readNumber(group, link, name string) (int, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6", group, link, name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// hdrincl is IPV6_HDRINCL of linux/in6.h: packets are sent with a header of ours.
const hdrincl = 36

// prepare sets up the socket.
func (d *detection) prepare(name string) error {
	var filter unix.ICMPv6Filter
	for i := range filter.Data {
		filter.Data[i] = ^uint32(0)
	}
	for _, t := range []int{typeNeighborSolicitation, typeNeighborAdvertisement} {
		filter.Data[t/32] &^= 1 << (t % 32)
	}
	set := func(what string, err error) error {
		if err != nil {
			return os.NewSyscallError("setsockopt "+what, err)
		}
		return nil
	}
	target, err := d.filter()
	if err != nil {
		return err
	}
	return errors.Join(
		set("ICMPV6_FILTER", unix.SetsockoptICMPv6Filter(d.socket, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)),
		set("SO_ATTACH_FILTER", unix.SetsockoptSockFprog(d.socket, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, target)),
		set("SO_BINDTODEVICE", unix.BindToDevice(d.socket, name)),
		set("IPV6_HDRINCL", unix.SetsockoptInt(d.socket, unix.IPPROTO_IPV6, hdrincl, 1)),
		set("IPV6_MULTICAST_LOOP", unix.SetsockoptInt(d.socket, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0)),
		set("IPV6_RECVHOPLIMIT", unix.SetsockoptInt(d.socket, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)),
	)
}

const (
	typeNeighborSolicitation  = 135
	typeNeighborAdvertisement = 136
	optNonce                  = 14 // RFC 3971 section 5.3.2
	targetOffset              = 8  // in both messages
	neighborLength            = 24 // of both, without options
	ndHopLimit                = 255
)

// filter accepts messages about the address only, so that no flood of others
// displaces them.
func (d *detection) filter() (*unix.SockFprog, error) {
	var program []bpf.Instruction
	a := d.addr.As16()
	const words = 4
	for i := range words {
		program = append(program,
			bpf.LoadAbsolute{Off: uint32(targetOffset + 4*i), Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(a[4*i:]), SkipTrue: uint8(2*(words-1-i) + 1)},
		)
	}
	program = append(program, bpf.RetConstant{Val: 1 << 16}, bpf.RetConstant{Val: 0})
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}, nil
}

// solicitedNode returns the solicited-node multicast address of a (RFC 4291 section
// 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := [16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff}
	low := a.As16()
	copy(b[13:], low[13:])
	return netip.AddrFrom16(b)
}

// step sends the solicitation that is due and reads what has arrived.
func (d *detection) step(now time.Time) error {
	if d.left > 0 && !now.Before(d.due) {
		if err := d.solicit(); err != nil {
			return fmt.Errorf("duplicate address detection of %s: %w", d.addr, err)
		}
		d.left--
		d.due = now.Add(d.every)
	}
	for !d.inUse {
		var message [256]byte
		var control [64]byte
		n, oobn, _, from, err := unix.Recvmsg(d.socket, message[:], control[:], 0)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("recvmsg", err)
		}
		source, ok := from.(*unix.SockaddrInet6)
		d.inUse = ok && hopLimit(control[:oobn]) == ndHopLimit && d.nonce.claims(d.addr, netip.AddrFrom16(source.Addr), message[:n])
	}
	return plan.ErrAddrInUse
}

// solicit sends a Neighbor Solicitation (RFC 4861 section 4.3) from the unspecified
// address.
func (d *detection) solicit() error {
	group := solicitedNode(d.addr)
	to := unix.SockaddrInet6{Addr: group.As16(), ZoneId: uint32(d.link)}
	// Joining twice is harmless, and refused.
	err := unix.SetsockoptIPv6Mreq(d.socket, unix.IPPROTO_IPV6, unix.IPV6_ADD_MEMBERSHIP, &unix.IPv6Mreq{Multiaddr: to.Addr, Interface: to.ZoneId})
	if err != nil && !errors.Is(err, unix.EADDRINUSE) {
		return os.NewSyscallError("setsockopt IPV6_ADD_MEMBERSHIP", err)
	}
	return os.NewSyscallError("sendto", unix.Sendto(d.socket, solicitation(d.addr, d.nonce), 0, &to))
}

// solicitation returns a Neighbor Solicitation for a, with IPv6 header.
func solicitation(a netip.Addr, n nonce) []byte {
	const header, length = 40, neighborLength + 8
	b := make([]byte, header+length)
	b[0], b[5], b[6], b[7] = 0x60, length, unix.IPPROTO_ICMPV6, ndHopLimit
	group, target := solicitedNode(a).As16(), a.As16()
	copy(b[24:], group[:])
	message := b[header:]
	message[0] = typeNeighborSolicitation
	copy(message[targetOffset:], target[:])
	message[neighborLength], message[neighborLength+1] = optNonce, 1
	copy(message[neighborLength+2:], n[:])
	pseudo := append(b[8:header:header], 0, 0, 0, length, 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(message[2:], ^siit.Sum(message, siit.Sum(pseudo, 0)))
	return b
}

// hopLimit returns the hop limit among control messages, or 0.
func hopLimit(control []byte) int {
	all, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, c := range all {
		if c.Header.Level == unix.IPPROTO_IPV6 && c.Header.Type == unix.IPV6_HOPLIMIT && len(c.Data) >= 4 {
			return int(binary.NativeEndian.Uint32(c.Data))
		}
	}
	return 0
}

// claims reports whether the message says that another node has the address a, or
// is about to (RFC 4862 sections 5.4.3 and 5.4.4). n is the nonce of our own
// solicitations.
func (n nonce) claims(a, source netip.Addr, message []byte) bool {
	if len(message) < neighborLength || message[1] != 0 || netip.AddrFrom16([16]byte(message[targetOffset:neighborLength])) != a {
		return false
	}
	switch message[0] {
	case typeNeighborAdvertisement:
		return true
	case typeNeighborSolicitation:
		return source.IsUnspecified() && !n.in(message[neighborLength:])
	}
	return false
}

// in reports whether options have the nonce.
func (n nonce) in(options []byte) bool {
	for len(options) >= 8 && options[1] > 0 {
		length := min(8*int(options[1]), len(options))
		if options[0] == optNonce && options[1] == 1 && nonce(options[2:8]) == n {
			return true
		}
		options = options[length:]
	}
	return false
}
