package shim

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"
)

// programMemory is the memory of a thread of the program. What is in it is
// hostile, and may change while it is looked at: each value is read once.
type programMemory struct {
	tid  int
	wide bool // pointers and lengths have 64 bits
	// still reports whether the thread waits for the answer to its call: if it has been
	// killed, its number may be that of another process, of another user. nil: the
	// supervisor may do no more to that one than the program may.
	still func() bool
}

// read fills b from the address at. It fails with EFAULT unless all of
// it is there.
func (m programMemory) read(at uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := unix.Iovec{Base: &b[0]}
	local.SetLen(len(b))
	n, err := unix.ProcessVMReadv(m.tid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}, 0)
	if err == nil && n < len(b) {
		err = unix.EFAULT
	}
	// A page that is slow to come can hold the read up for as long as the program likes.
	if err == nil && m.still != nil && !m.still() {
		err = unix.ESRCH
	}
	return err
}

// write is the reverse of read.
func (m programMemory) write(at uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if m.still != nil {
		return m.writeHeld(at, b)
	}
	local := unix.Iovec{Base: &b[0]}
	local.SetLen(len(b))
	n, err := unix.ProcessVMWritev(m.tid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}, 0)
	if err == nil && n < len(b) {
		err = unix.EFAULT
	}
	return err
}

// writeHeld is write by a descriptor of the memory: when that has been opened and the
// thread still waits, it is the thread's and nobody else's, whatever becomes of its
// number.
func (m programMemory) writeHeld(at uint64, b []byte) error {
	fd, err := unix.Open("/proc/"+strconv.Itoa(m.tid)+"/mem", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !m.still() {
		return unix.ESRCH
	}
	if n, err := unix.Pwrite(fd, b, int64(at)); err != nil || n < len(b) {
		return unix.EFAULT
	}
	return nil
}

// socketName reads a socket address of size bytes, as far as it can be an IPv4 one.
func (m programMemory) socketName(at, size uint64) (name, bool) {
	n := size & 0xffffffff
	if n < sizeofInet4 || n > 1<<16 {
		return name{}, false
	}
	var b [maxName]byte
	got := b[:min(n, maxName)]
	if m.read(at, got) != nil {
		return name{}, false
	}
	return parseName(got)
}

// putName writes a name as the kernel does: what fits into the buffer, and the
// length that it has.
func (m programMemory) putName(at, lengthAt uint64, n name) reply {
	var l [4]byte
	if m.read(lengthAt, l[:]) != nil {
		return fail(unix.EFAULT)
	}
	room := int32(binary.NativeEndian.Uint32(l[:]))
	if room < 0 {
		return fail(unix.EINVAL)
	}
	b := n.bytes()
	if m.write(at, b[:min(int(room), len(b))]) != nil {
		return fail(unix.EFAULT)
	}
	binary.NativeEndian.PutUint32(l[:], uint32(len(b)))
	if m.write(lengthAt, l[:]) != nil {
		return fail(unix.EFAULT)
	}
	return reply{}
}

// intAt reads the value of an option: an int, or a single byte.
func (m programMemory) intAt(at, size uint64) (int, bool) {
	var b [4]byte
	switch size := size & 0xffffffff; {
	case size >= 4 && size < 1<<16:
		if m.read(at, b[:]) != nil {
			return 0, false
		}
		return int(int32(binary.NativeEndian.Uint32(b[:]))), true
	case size >= 1 && size < 4:
		if m.read(at, b[:1]) != nil {
			return 0, false
		}
		return int(b[0]), true
	}
	return 0, false
}

// maxData is how much of a program's data is read at once.
const maxData = 64 << 10

// message is struct msghdr of a program.
type message struct {
	name    []byte // at most maxName
	iov     []span
	segment int // what control data asks for (UDP_SEGMENT): the size of datagrams; 0: one
}

// span is struct iovec.
type span struct{ at, size uint64 }

const maxSpans = 1024 // UIO_MAXIOV

// data reads what a program sends, up to maxData.
func (m programMemory) data(at, size uint64) ([]byte, error) {
	b := make([]byte, min(size, maxData))
	return b, m.read(at, b)
}

// header reads a struct msghdr of a program with its name and vector.
func (m programMemory) header(at uint64) (h message, err error) {
	var b [56]byte
	size := 56
	if !m.wide {
		size = 28
	}
	if err := m.read(at, b[:size]); err != nil {
		return h, err
	}
	nameAt, nameSize, iovAt, iovs, controlAt, controls := parseHeader(b[:size], m.wide)
	if nameAt != 0 && nameSize > 0 {
		h.name = make([]byte, min(nameSize, maxName))
		if err := m.read(nameAt, h.name); err != nil {
			return h, err
		}
	}
	if iovs > maxSpans {
		return h, unix.EMSGSIZE
	}
	word := 8
	if !m.wide {
		word = 4
	}
	v := make([]byte, int(iovs)*2*word)
	if err := m.read(iovAt, v); err != nil {
		return h, err
	}
	h.iov = parseSpans(v, m.wide)
	h.segment = m.segment(controlAt, controls)
	return h, nil
}

// maxControl is how much of a program's control data is looked at.
const maxControl = 256

// segment returns the size of datagrams that control data names (UDP_SEGMENT), or 0.
// Where the program is about to receive, there is anything.
func (m programMemory) segment(at, size uint64) (n int) {
	var b [maxControl]byte
	got := b[:min(size, maxControl)]
	if !m.wide || m.read(at, got) != nil {
		return 0
	}
	eachControl(got, func(level, typ int32, data []byte) {
		if level == unix.SOL_UDP && typ == udpSegment && len(data) >= 2 {
			n = int(binary.NativeEndian.Uint16(data))
		}
	})
	return n
}

// parseHeader takes a struct msghdr apart. b has its size.
func parseHeader(b []byte, wide bool) (nameAt uint64, nameSize uint32, iovAt, iovs, controlAt, controls uint64) {
	e := binary.NativeEndian
	if wide {
		return e.Uint64(b), e.Uint32(b[8:]), e.Uint64(b[16:]), e.Uint64(b[24:]), e.Uint64(b[32:]), e.Uint64(b[40:])
	}
	return uint64(e.Uint32(b)), e.Uint32(b[4:]), uint64(e.Uint32(b[8:])), uint64(e.Uint32(b[12:])), uint64(e.Uint32(b[16:])), uint64(e.Uint32(b[20:]))
}

// parseSpans takes an array of struct iovec apart.
func parseSpans(b []byte, wide bool) (all []span) {
	e := binary.NativeEndian
	if wide {
		for ; len(b) >= 16; b = b[16:] {
			all = append(all, span{e.Uint64(b), e.Uint64(b[8:])})
		}
		return all
	}
	for ; len(b) >= 8; b = b[8:] {
		all = append(all, span{uint64(e.Uint32(b)), uint64(e.Uint32(b[4:]))})
	}
	return all
}

// gather reads the data of a message, up to maxData.
func (m programMemory) gather(g message) ([]byte, error) {
	var all []byte
	for _, v := range g.iov {
		b, err := m.data(v.at, min(v.size, uint64(maxData-len(all))))
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// scatter writes data into the vector of a message.
func (m programMemory) scatter(to message, b []byte) error {
	for _, v := range to.iov {
		n := min(uint64(len(b)), v.size)
		if err := m.write(v.at, b[:n]); err != nil {
			return err
		}
		if b = b[n:]; len(b) == 0 {
			return nil
		}
	}
	return nil
}

// finishHeader writes the name, the length of control data (none) and flags into
// a struct msghdr.
func (m programMemory) finishHeader(at uint64, name []byte, flags uint32) error {
	var b [56]byte
	size, word := 56, 8
	if !m.wide {
		size, word = 28, 4
	}
	if err := m.read(at, b[:size]); err != nil {
		return err
	}
	nameAt, room, _, _, _, _ := parseHeader(b[:size], m.wide)
	e := binary.NativeEndian
	var n [8]byte
	if nameAt != 0 {
		if err := m.write(nameAt, name[:min(len(name), int(room))]); err != nil {
			return err
		}
		e.PutUint32(n[:], uint32(len(name)))
		if err := m.write(at+uint64(word), n[:4]); err != nil {
			return err
		}
	}
	clear(n[:])
	if err := m.write(at+uint64(5*word), n[:word]); err != nil {
		return err
	}
	e.PutUint32(n[:], flags)
	return m.write(at+uint64(6*word), n[:4])
}

// mmsgSize is the size of struct mmsghdr of the program, and mmsgTail how far
// before its end the length is.
func (m programMemory) mmsgSize() uint64 {
	if m.wide {
		return 64
	}
	return 32
}

func (m programMemory) mmsgTail() uint64 {
	if m.wide {
		return 8
	}
	return 4
}
