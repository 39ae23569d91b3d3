package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The attributes of a TUN interface in IFLA_LINKINFO/IFLA_INFO_DATA
// (include/uapi/linux/if_link.h, Linux 4.17).
const (
	iflaTunOwner             = 1
	iflaTunGroup             = 2
	iflaTunPersist           = 6
	iflaTunNumQueues         = 8
	iflaTunNumDisabledQueues = 9
)

// Of queueing disciplines (include/uapi/linux/rtnetlink.h, pkt_sched.h).
const (
	sizeofTcMsg = 20         // struct tcmsg
	tcRoot      = 0xffffffff // TC_H_ROOT
	tcaKind     = 1          // TCA_KIND
)

// linkInfo is a TUN interface as rtnetlink describes it. The kernel fills it in
// under the lock that every ioctl of a TUN takes, so it is of one moment.
type linkInfo struct {
	index      int
	name       string
	alias      string
	deviceType uint16 // ARPHRD_*
	owner      id     // TUNSETOWNER
	group      id     // TUNSETGROUP
	persistent bool   // TUNSETPERSIST
	queues     int    // attached descriptors that are in use
	disabled   int    // attached descriptors that are detached by TUNSETQUEUE
}

// id is a user or group, if there is one.
type id struct {
	set bool
	id  uint32
}

// errNoTUN is the error of an interface that is no TUN.
var errNoTUN = errors.New("it is not a TUN interface")

// rtnetlink is a socket to the kernel's network configuration, in the network
// namespace of the thread that opened it. One goroutine at a time may use it.
type rtnetlink struct {
	fd  int
	seq uint32
}

func openRtnetlink() (*rtnetlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return &rtnetlink{fd: fd}, nil
}

func (r *rtnetlink) Close() error { return unix.Close(r.fd) }

// link describes the TUN interface with that index. An error wraps
// unix.ENODEV if there is no such interface, errNoTUN if it is of another kind.
func (r *rtnetlink) link(index int) (linkInfo, error) {
	replies, err := r.ask(unix.RTM_GETLINK, 0, index)
	if err != nil {
		return linkInfo{}, err
	}
	for _, m := range replies {
		if info, ok := parseLink(m); ok {
			return info, nil
		}
	}
	return linkInfo{}, errNoTUN
}

// links describes all TUN interfaces of the namespace.
func (r *rtnetlink) links() ([]linkInfo, error) {
	replies, err := r.ask(unix.RTM_GETLINK, unix.NLM_F_DUMP, 0)
	var all []linkInfo
	for _, m := range replies {
		if info, ok := parseLink(m); ok {
			all = append(all, info)
		}
	}
	return all, err
}

// remove removes an interface, whoever holds descriptors of it.
func (r *rtnetlink) remove(index int) error {
	_, err := r.ask(unix.RTM_DELLINK, unix.NLM_F_ACK, index)
	return err
}

// noQueue takes the queueing discipline of an interface away, so that what is sent
// enters the queues of the TUN at once.
func (r *rtnetlink) noQueue(index int) error {
	body := make([]byte, sizeofTcMsg)
	binary.NativeEndian.PutUint32(body[4:], uint32(index)) // tcm_ifindex
	binary.NativeEndian.PutUint32(body[12:], tcRoot)       // tcm_parent
	kind := "noqueue\x00"
	body = binary.NativeEndian.AppendUint16(body, uint16(unix.SizeofRtAttr+len(kind)))
	body = binary.NativeEndian.AppendUint16(body, tcaKind)
	body = append(body, kind...)
	_, err := r.request(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK, body)
	return err
}

// ask sends one request about an interface and returns the messages of the
// answer.
func (r *rtnetlink) ask(kind uint16, flags int, index int) ([]syscall.NetlinkMessage, error) {
	body := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(body[4:], uint32(index)) // ifi_index
	return r.request(kind, flags, body)
}

// request sends one request and returns the messages of the answer.
func (r *rtnetlink) request(kind uint16, flags int, body []byte) ([]syscall.NetlinkMessage, error) {
	r.seq++
	request := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(request[0:], uint32(unix.SizeofNlMsghdr+len(body)))
	binary.NativeEndian.PutUint16(request[4:], kind)
	binary.NativeEndian.PutUint16(request[6:], uint16(unix.NLM_F_REQUEST|flags))
	binary.NativeEndian.PutUint32(request[8:], r.seq)
	request = append(request, body...)
	if err := unix.Sendto(r.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var all []syscall.NetlinkMessage
	for {
		some, done, err := r.receive()
		all = append(all, some...)
		if err != nil || done || flags == 0 && len(all) > 0 {
			return all, err
		}
	}
}

// receive reads one datagram. done says that no more belong to the answer.
func (r *rtnetlink) receive() (answer []syscall.NetlinkMessage, done bool, err error) {
	buf := make([]byte, 64<<10)
	n, from, err := unix.Recvfrom(r.fd, buf, 0)
	if err == unix.EINTR {
		return nil, false, nil
	}
	if err != nil {
		return nil, true, os.NewSyscallError("recvfrom", err)
	}
	if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
		return nil, false, nil // only the kernel is believed
	}
	messages, err := syscall.ParseNetlinkMessage(buf[:n])
	if err != nil {
		return nil, true, err
	}
	for _, m := range messages {
		if m.Header.Seq != r.seq {
			continue // of a request that was given up
		}
		switch m.Header.Type {
		case unix.NLMSG_DONE:
			return answer, true, nil
		case unix.NLMSG_ERROR:
			if len(m.Data) < 4 {
				return answer, true, unix.EBADMSG
			}
			if errno := int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
				return answer, true, unix.Errno(-errno)
			}
			return answer, true, nil
		}
		answer = append(answer, m)
	}
	return answer, false, nil
}

// parseLink reads an RTM_NEWLINK message. ok is false if it is not about a TUN.
func parseLink(m syscall.NetlinkMessage) (info linkInfo, ok bool) {
	if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return info, false
	}
	info.deviceType = binary.NativeEndian.Uint16(m.Data[2:])
	info.index = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	kind := ""
	eachAttribute(m.Data[unix.SizeofIfInfomsg:], func(t uint16, v []byte) {
		switch t {
		case unix.IFLA_IFNAME:
			info.name = text(v)
		case unix.IFLA_IFALIAS:
			info.alias = text(v)
		case unix.IFLA_LINKINFO:
			eachAttribute(v, func(t uint16, v []byte) {
				switch t {
				case unix.IFLA_INFO_KIND:
					kind = text(v)
				case unix.IFLA_INFO_DATA:
					eachAttribute(v, info.setTUN)
				}
			})
		}
	})
	return info, kind == "tun"
}

func (info *linkInfo) setTUN(t uint16, v []byte) {
	number := func() uint32 {
		if len(v) < 4 {
			return 0
		}
		return binary.NativeEndian.Uint32(v)
	}
	switch t {
	case iflaTunOwner:
		info.owner = id{true, number()}
	case iflaTunGroup:
		info.group = id{true, number()}
	case iflaTunPersist:
		info.persistent = len(v) > 0 && v[0] != 0
	case iflaTunNumQueues:
		info.queues = int(number())
	case iflaTunNumDisabledQueues:
		info.disabled = int(number())
	}
}

// eachAttribute calls f for the attributes (struct rtattr) in b, as far as
// their lengths are right.
func eachAttribute(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofRtAttr:n])
		b = b[min((n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(b)):]
	}
}

func text(v []byte) string { return strings.TrimRight(string(v), "\x00") }
