package shim

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor answers the system calls of the program.
type supervisor struct {
	listener listener
	hidden   *hidden // nil: there is no hidden namespace
	policy   atomic.Pointer[table]
	say      func(key, format string, args ...any) // once for each key
	stale    func()                                // the prefix may have changed

	routes      routes
	memory      memory
	processes   processes
	sockets     sockets
	copied      recent // cookies of sockets with duplicated descriptors
	served      recent // cookies of AF_INET6 sockets that were bound to a port
	timed       recent // cookies of sockets with a send timeout
	asked       recent // cookies of netlink sockets that have been used
	listings    listings
	unfinished  unfinishedSwaps
	started     startedConnects
	undelivered undeliveredDatagrams
	turns       turns
	judges      atomic.Int32 // that wait for what becomes of a connection: maxJudges
	limits      limits
	root        bool           // and the program may be somebody else
	net         uint64         // our network namespace
	connecting  [64]sync.Mutex // held while connect is answered, by cookie
	late        atomic.Bool    // sockets cannot be handed out: Linux before 5.14
}

// trapped is one system call of the program.
type trapped struct {
	*supervisor
	id   uint64
	tid  int
	mem  programMemory
	call call
	abi  *abi
	args [6]uint64

	lacking bool // the supervisor lacks descriptors: see runOut

	short *emptyStock // the call is to be handled again when there is a socket in stock
}

// trapped returns the system call of a notification.
func (s *supervisor) trapped(n *notification) *trapped {
	t := &trapped{supervisor: s, id: n.id, tid: int(n.pid), abi: abiOf(n.arch, n.nr), args: n.args}
	t.mem = programMemory{tid: t.tid, wide: t.abi != nil && t.abi.wide}
	if s.root {
		t.mem.still = t.waiting
	}
	return t
}

// sayLate tells why sockets are replaced at connect only.
func (s *supervisor) sayLate() {
	s.say("late", "the kernel cannot answer with a descriptor (SECCOMP_ADDFD_FLAG_SEND, Linux 5.14): TCP sockets are replaced when they connect")
}

// reply says what the program gets for it.
type reply struct {
	val     int64
	errno   unix.Errno
	proceed bool // the kernel executes the call as if nothing had been
	waits   bool // proceed: its own call waits for a connection that has been started
	given   bool // it has been answered already

	undelivered func() // called if the program is not there any more to get it
}

var proceed = reply{proceed: true}

func fail(err error) reply {
	if e, ok := err.(unix.Errno); ok {
		return reply{errno: e}
	}
	return reply{errno: unix.EIO}
}

// handle answers a call, or returns what will: nobody else waits for that.
func (s *supervisor) handle(t *trapped, nr int32) (later func() reply) {
	r := proceed
	if t.abi != nil {
		t.call = t.abi.call(nr)
		if t.call == callSocketcall {
			t.unpack()
		}
		finishSwaps(t)
		if h := handlers[t.call]; h != nil {
			if r, later = h(t); t.short != nil {
				later = func() reply { return t.whenStocked(h) }
			}
		}
	}
	if later == nil {
		t.answer(t.whenExhausted(r))
	}
	return later
}

// unpack replaces a socketcall(2) by the call that it stands for.
func (t *trapped) unpack() {
	t.call = socketcalls[t.args[0]]
	var b [24]byte // six words
	if t.mem.read(t.args[1], b[:]) != nil {
		// At the end of a page fewer may be there.
		if t.mem.read(t.args[1], b[:12]) != nil {
			t.call = unknownCall
		}
	}
	for i := range t.args {
		t.args[i] = uint64(binary.NativeEndian.Uint32(b[4*i:]))
	}
}

// whenStocked handles a call again once the relay has filled the stock, so that
// nobody else waits for it.
func (t *trapped) whenStocked(h handler) reply {
	for t.short != nil && t.hidden.wait(*t.short) {
		t.short = nil
		r, later := h(t)
		if t.short != nil {
			continue
		}
		if later != nil {
			return later()
		}
		return t.whenExhausted(r)
	}
	t.say("hidden", "the relay has no socket for a program, which gets ENOBUFS")
	return fail(unix.ENOBUFS)
}

// lacks notes that a call can be handled only when the stock has been filled, or
// there are descriptors again. It returns false for other errors.
func (t *trapped) lacks(err error) bool {
	var e emptyStock
	if errors.As(err, &e) {
		t.short = &e
		return true
	}
	t.runOut(err)
	return exhausted(err)
}

func (t *trapped) answer(r reply) {
	if r.given {
		return
	}
	a := response{id: t.id, val: r.val, errno: -int32(r.errno)}
	if r.proceed {
		a = response{id: t.id, flags: responseContinue}
	}
	if t.listener.answer(a) != nil && r.undelivered != nil {
		r.undelivered()
	}
}

// A handler answers a call, at once or later. It must not block.
type handler func(*trapped) (r reply, later func() reply)

// atOnce makes a handler of a function that needs no time.
func atOnce(f func(*trapped) reply) handler {
	return func(t *trapped) (reply, func() reply) { return f(t), nil }
}

// handlers are by call; nil: the kernel does it.
var handlers = [numCalls]handler{
	callSocket:       atOnce(answerSocket),
	callBind:         atOnce(answerBind),
	callConnect:      answerConnect,
	callListen:       atOnce(answerListen),
	callGetpeername:  atOnce(answerName),
	callGetsockname:  atOnce(answerName),
	callGetsockopt:   atOnce(answerGetsockopt),
	callSetsockopt:   atOnce(answerSetsockopt),
	callSendto:       answerSendto,
	callSendmsg:      answerSendmsg,
	callSendmmsg:     answerSendmmsg,
	callRecvfrom:     answerRecvfrom,
	callRecvmsg:      answerRecvmsg,
	callRecvmmsg:     answerRecvmsg,
	callIoctl:        atOnce(answerIoctl),
	callDup:          atOnce(answerDup),
	callDup2:         atOnce(answerDup),
	callDup3:         atOnce(answerDup),
	callFcntl:        atOnce(answerDup),
	callFcntl64:      atOnce(answerDup),
	callLandlock:     answerLandlock,
	callUnshare:      answerNamespace,
	callSetns:        answerNamespace,
	callEpollCreate:  atOnce(answerEpollCreate),
	callEpollCreate1: atOnce(answerEpollCreate),
}

// fd is an argument that is a descriptor.
func (t *trapped) fd(arg int) int { return int(int32(t.args[arg])) }

// number is an argument that is an int.
func (t *trapped) number(arg int) int { return int(int32(t.args[arg])) }

// own returns a duplicate of the socket in argument 0, for the caller to close.
func (t *trapped) own() (int, *process, error) {
	fd, p, err := t.processes.descriptor(t.tid, t.fd(0))
	if err == nil && !p.known.Load() {
		// The caller may have been killed and its number be another's before we
		// opened that. From now on the pidfd tells them apart.
		if !t.listener.valid(t.id) {
			unix.Close(fd)
			t.processes.forget(p)
			return -1, nil, errGone
		}
		p.known.Store(true)
	}
	t.runOut(err)
	return fd, p, err
}

// replacedSocket returns a duplicate of the socket in argument 0 if it was replaced and
// wanted says so. The caller closes it.
func replacedSocket(t *trapped, wanted func(replaced) bool) (fd int, r replaced, ok bool) {
	fd, _, err := t.own()
	if err != nil {
		return -1, r, false
	}
	if cookie, err := cookieOf(fd); err == nil {
		if r, ok = t.sockets.get(cookie); ok && wanted(r) {
			return fd, r, true
		}
	}
	unix.Close(fd)
	return -1, r, false
}

// facts are those of the host at present.
func (s *supervisor) facts() facts {
	return facts{
		ipv4:       s.routes.to,
		ipv6:       s.routes.to,
		remembered: func(a netip.Addr) (bool, bool) { return s.memory.get(a, time.Now()) },
	}
}

// decide says what becomes of a destination, and tells the user where nothing can.
func (s *supervisor) decide(a netip.Addr) (*table, Decision, Why) {
	tab := s.policy.Load()
	d, why := tab.decide(a, s.facts())
	if d == NoPrefix {
		s.say("no prefix "+a.String(), "cannot reach %s: no PREF64 covers it and IPv4 has no route to it", a)
	}
	return tab, d, why
}

// elsewhere reports whether the thread has left our network namespace. Then its
// sockets are its own business.
func (t *trapped) elsewhere(p *process) bool {
	if p == nil {
		var err error
		if p, err = t.processes.of(t.tid); err != nil {
			t.runOut(err)
			return true
		}
	}
	ns := t.processes.namespaceOf(p)
	return ns != 0 && ns != t.net
}

// closed reports whether the process does not let others look into it, and says
// so: what it connects to cannot be read.
func (t *trapped) closed() bool {
	p, err := t.processes.of(t.tid)
	if err != nil || t.processes.namespaceOf(p) != 0 {
		return false
	}
	t.say("closed", "process %d does not let its memory be read (PR_SET_DUMPABLE): its sockets are not translated", p.group.tgid)
	return true
}

// kind is what the kernel says of a socket.
type kind struct {
	family, typ, proto int
	cookie             uint64
	hidden             bool // born in the hidden namespace
}

func (s *supervisor) inspect(fd int) (k kind, err error) {
	if k.family, err = getInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return k, err
	}
	if k.family != unix.AF_INET && k.family != unix.AF_INET6 {
		return k, nil
	}
	if k.typ, err = getInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return k, err
	}
	if k.proto, err = getInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil {
		return k, err
	}
	if k.cookie, err = cookieOf(fd); err != nil {
		return k, err
	}
	k.hidden = s.hidden != nil && k.typ == unix.SOCK_DGRAM && s.hidden.owns(fd)
	return k, nil
}
