package shim

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// listings are the netlink sockets whose list of addresses is to begin with one
// of ours, by cookie, with the sequence number of the request.
type listings struct {
	n   atomic.Int32 // len(seq), for a look without lock
	mu  sync.Mutex
	seq map[uint64]uint32
}

// maxListings bounds them. A program that asks and does not read gets the host's
// own answers.
const maxListings = 64

func (l *listings) add(cookie uint64, seq uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seq == nil || len(l.seq) >= maxListings {
		l.seq = map[uint64]uint32{}
	}
	l.seq[cookie] = seq
	l.n.Store(int32(len(l.seq)))
}

func (l *listings) take(cookie uint64) (seq uint32, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq, ok = l.seq[cookie]
	delete(l.seq, cookie)
	l.n.Store(int32(len(l.seq)))
	return seq, ok
}

// sizeofListing is the size of the message of addressMessage.
const sizeofListing = unix.SizeofNlMsghdr + unix.SizeofIfAddrmsg + 2*(unix.SizeofRtAttr+4)

// addressMessage is the part of a list of addresses that names the placeholder,
// as the kernel writes it to the netlink port pid.
func addressMessage(seq, pid uint32) []byte {
	e, b := binary.NativeEndian, make([]byte, sizeofListing)
	e.PutUint32(b, sizeofListing)
	e.PutUint16(b[4:], unix.RTM_NEWADDR)
	e.PutUint16(b[6:], unix.NLM_F_MULTI)
	e.PutUint32(b[8:], seq)
	e.PutUint32(b[12:], pid)
	b[16], b[17], b[18] = unix.AF_INET, 32, unix.IFA_F_PERMANENT
	e.PutUint32(b[20:], 1) // loopback
	a := placeholder.As4()
	for i, typ := range []uint16{unix.IFA_ADDRESS, unix.IFA_LOCAL} {
		at := b[unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg+8*i:]
		e.PutUint16(at, 8)
		e.PutUint16(at[2:], typ)
		copy(at[4:], a[:])
	}
	return b
}

// answerListing answers the first recvmsg on a netlink socket of listings. The
// host's own list follows.
func answerListing(t *trapped) (r reply, ok bool) {
	if t.listings.n.Load() == 0 || t.call != callRecvmsg || t.number(2)&unix.MSG_PEEK != 0 {
		return r, false
	}
	fd, _, err := t.own()
	if err != nil {
		return r, false
	}
	defer unix.Close(fd)
	cookie, err := cookieOf(fd)
	if err != nil {
		return r, false
	}
	own, is := netlinkName(fd)
	if !is {
		return r, false
	}
	seq, is := t.listings.take(cookie)
	if !is {
		return r, false
	}
	m, err := t.mem.header(t.args[1])
	if err != nil || len(m.iov) == 0 || m.iov[0].size < sizeofListing {
		return r, false
	}
	b := addressMessage(seq, own.Pid)
	from := make([]byte, unix.SizeofSockaddrNetlink) // the kernel
	binary.NativeEndian.PutUint16(from, unix.AF_NETLINK)
	if t.mem.scatter(m, b) != nil || t.mem.finishHeader(t.args[1], from, 0) != nil {
		return fail(unix.EFAULT), true
	}
	return reply{val: int64(len(b))}, true
}
