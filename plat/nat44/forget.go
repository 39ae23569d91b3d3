package nat44

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	messageGet   = 1 // IPCTNL_MSG_CT_GET
	ctaZone      = 18
	forgetWait   = 10 // seconds that the kernel may take for a message
	headerLength = 16 // of netlink
)

// Forget ends the tracked IPv4 connections of addresses that gone reports: a
// host that gets such an address would inherit them. It returns how many there
// were. [errors.ErrUnsupported] means that the kernel tells nobody of its
// connections.
func Forget(gone func(netip.Addr) bool) (ended int, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, fmt.Errorf("conntrack: %w", os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: forgetWait}); err != nil {
		return 0, fmt.Errorf("conntrack: %w", err)
	}
	// The list is read message by message: it may be longer than memory allows.
	var keys [][]byte
	err = conntrack(fd, messageGet, unix.NLM_F_DUMP, nil, func(data []byte) {
		if key := keyOf(data, gone); key != nil {
			keys = append(keys, key)
		}
	})
	if errors.Is(err, unix.EINVAL) { // no such subsystem of nfnetlink
		err = errors.ErrUnsupported
	}
	if err != nil {
		return 0, fmt.Errorf("conntrack: list the connections: %w", err)
	}
	for _, key := range keys {
		err := conntrack(fd, messageDelete, unix.NLM_F_ACK, key, func([]byte) {})
		switch {
		case err == nil:
			ended++
		case !errors.Is(err, unix.ENOENT): // it has ended meanwhile
			return ended, fmt.Errorf("conntrack: end a connection: %w", err)
		}
	}
	return ended, nil
}

// conntrack sends a request with attributes and shows the data of each answer.
func conntrack(fd int, message uint16, flags uint16, attributes []byte, see func([]byte)) error {
	m := make([]byte, headerLength, headerLength+nfgenmsgLen+len(attributes))
	m = append(append(m, unix.AF_INET, unix.NFNETLINK_V0, 0, 0), attributes...)
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], unix.NFNL_SUBSYS_CTNETLINK<<8|message)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|flags)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		answers, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return err
		}
		for _, a := range answers {
			switch {
			case a.Header.Type == unix.NLMSG_DONE:
				return nil
			case a.Header.Type == unix.NLMSG_ERROR && len(a.Data) >= 4:
				if e := int32(binary.NativeEndian.Uint32(a.Data)); e != 0 {
					return unix.Errno(-e)
				}
				return nil
			case len(a.Data) >= nfgenmsgLen:
				see(a.Data[nfgenmsgLen:])
			}
		}
	}
}

// keyOf returns the attributes that name a connection if one of its addresses is
// gone, otherwise nil.
func keyOf(data []byte, gone func(netip.Addr) bool) []byte {
	var orig, reply tuple
	var key []mdnetlink.Attribute
	ad, err := mdnetlink.NewAttributeDecoder(data)
	if err != nil {
		return nil
	}
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleOrig:
			key = append(key, mdnetlink.Attribute{Type: ctaTupleOrig | unix.NLA_F_NESTED, Data: ad.Bytes()})
			ad.Nested(orig.decode)
		case ctaTupleReply:
			ad.Nested(reply.decode)
		case ctaZone:
			key = append(key, mdnetlink.Attribute{Type: ctaZone, Data: ad.Bytes()})
		}
	}
	if ad.Err() != nil {
		return nil
	}
	for _, a := range []netip.Addr{orig.source, orig.dest, reply.source, reply.dest} {
		if a.IsValid() && gone(a) {
			b, err := mdnetlink.MarshalAttributes(key)
			if err != nil {
				return nil
			}
			return b
		}
	}
	return nil
}
