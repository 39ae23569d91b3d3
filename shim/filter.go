package shim

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A condition looks at the low 32 bits of an argument of a system call.
type condition struct {
	arg  int
	test bpf.JumpTest
	mask uint32 // applied first, unless 0
	val  uint32
}

func is(arg int, v uint32) condition { return condition{arg: arg, test: bpf.JumpEqual, val: v} }
func masked(arg int, mask, v uint32) condition {
	return condition{arg: arg, test: bpf.JumpEqual, mask: mask, val: v}
}
func least(arg int, v uint32) condition {
	return condition{arg: arg, test: bpf.JumpGreaterOrEqual, val: v}
}
func has(arg int, bit uint32) condition { return condition{arg: arg, test: bpf.JumpBitsSet, val: bit} }

// A rule says what becomes of a system call when all conditions hold.
type rule struct {
	call   call
	when   []condition
	action uint32
}

const (
	sockTypeMask   = 0xf
	siocFirst      = 0x8910 // SIOCGIFNAME; below are requests about a socket's own queue
	siocMask       = 0xff00
	siocValue      = 0x8900
	sizeofInet4    = 16
	sizeofInet6    = 24 // RFC 2133; with the scope it is 28
	sizeofNetlink  = 12
	msgFastOpen    = 0x20000000
	fDupFD         = 0
	fDupFDCloexec  = 1030
	refuseIOUring  = retErrno | uint32(unix.ENOSYS)
	solSocket      = unix.SOL_SOCKET
	optSODomain    = unix.SO_DOMAIN
	optBindDevice  = unix.SO_BINDTODEVICE
	optBindIfindex = unix.SO_BINDTOIFINDEX

	optSendTimeoOld = 21 // SO_SNDTIMEO_OLD
	optSendTimeoNew = 67 // SO_SNDTIMEO_NEW
)

// commonRules are those of every method that traps system calls.
var commonRules = []rule{
	// A TCP socket is AF_INET6 from the start, until it turns out to be for
	// something else than NAT64.
	{callSocket, []condition{is(0, unix.AF_INET), masked(1, sockTypeMask, unix.SOCK_STREAM)}, retNotify},
	{callBind, nil, retNotify},
	{callListen, nil, retNotify},
	{callIoctl, []condition{masked(1, siocMask, siocValue), least(1, siocFirst)}, retNotify},

	{callConnect, nil, retNotify},
	{callGetpeername, nil, retNotify},
	{callGetsockname, nil, retNotify},
	{callGetsockopt, []condition{is(1, solSocket), is(2, optSODomain)}, retNotify},
	{callSetsockopt, []condition{is(1, unix.SOL_IP)}, retNotify},
	// Its own connect would end with EALREADY when this time has passed.
	{callSetsockopt, []condition{is(1, solSocket), is(2, optSendTimeoOld)}, retNotify},
	{callSetsockopt, []condition{is(1, solSocket), is(2, optSendTimeoNew)}, retNotify},

	// TCP Fast Open names the server when it sends.
	{callSendto, []condition{has(3, msgFastOpen)}, retNotify},
	{callSendmsg, []condition{has(2, msgFastOpen)}, retNotify},
	{callSendmmsg, []condition{has(3, msgFastOpen)}, retNotify},

	// glibc asks the host for its addresses (AI_ADDRCONFIG).
	{callSendto, []condition{is(5, sizeofNetlink)}, retNotify},

	// A descriptor that is swapped at connect may have been duplicated, or be
	// registered with an epoll instance.
	{callDup, nil, retNotify},
	{callDup2, nil, retNotify},
	{callDup3, nil, retNotify},
	{callFcntl, []condition{is(1, fDupFD)}, retNotify},
	{callFcntl, []condition{is(1, fDupFDCloexec)}, retNotify},
	{callFcntl64, []condition{is(1, fDupFD)}, retNotify},
	{callFcntl64, []condition{is(1, fDupFDCloexec)}, retNotify},
	{callEpollCreate, nil, retNotify},
	{callEpollCreate1, nil, retNotify},

	// Its operations would not come by here. Programs fall back.
	{callIOUringSetup, nil, refuseIOUring},

	// Sockets are made in our network namespace, for programs that are there.
	{callUnshare, nil, retNotify},
	{callSetns, nil, retNotify},

	// It does not bind us, who connect in the program's name.
	{callLandlock, nil, retNotify},

	{callSocketcall, nil, retNotify},
}

// hiddenRules are for datagram sockets of the hidden namespace.
var hiddenRules = []rule{
	{callSocket, []condition{is(0, unix.AF_INET), masked(1, sockTypeMask, unix.SOCK_DGRAM)}, retNotify},
	{callSetsockopt, []condition{is(1, solSocket), is(2, optBindDevice)}, retNotify},
	{callSetsockopt, []condition{is(1, solSocket), is(2, optBindIfindex)}, retNotify},
	// An AF_INET6 socket may name ::ffff:a.b.c.d.
	{callSendto, []condition{least(5, sizeofInet6)}, retNotify},
}

// trappedRules are for datagrams without a hidden namespace: one by one.
var trappedRules = []rule{
	{callSendto, []condition{least(5, sizeofInet4)}, retNotify},
	{callSendmsg, nil, retNotify},
	{callSendmmsg, nil, retNotify},
	{callRecvfrom, []condition{{arg: 4, test: bpf.JumpNotEqual, val: 0}}, retNotify},
	{callRecvmsg, nil, retNotify},
	{callRecvmmsg, nil, retNotify},
}

// rules returns the table for a method.
func rules(hidden bool) []rule {
	if hidden {
		return append(append([]rule(nil), commonRules...), hiddenRules...)
	}
	return append(append([]rule(nil), commonRules...), trappedRules...)
}

// Offsets in struct seccomp_data.
const (
	offNumber = 0
	offArch   = 4
)

func offArg(i int) uint32 { return uint32(16 + 8*i) }

// assemble makes the BPF program of a table for every ABI of this machine. What
// no rule matches is allowed, and so are other ABIs.
func assemble(table []rule) ([]bpf.RawInstruction, error) {
	var p []bpf.Instruction
	for i := range abis {
		block := append([]bpf.Instruction{bpf.LoadAbsolute{Off: offNumber, Size: 4}}, abiBlock(&abis[i], table)...)
		// Two ABIs may share an architecture: then the next block goes on.
		if i+1 == len(abis) || abis[i+1].audit != abis[i].audit {
			block = append(block, bpf.RetConstant{Val: retAllow})
		}
		p = append(p,
			bpf.LoadAbsolute{Off: offArch, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: abis[i].audit, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(block))})
		p = append(p, block...)
	}
	p = append(p, bpf.RetConstant{Val: retAllow})
	return bpf.Assemble(p)
}

// abiBlock compares the call number, which is loaded. It falls through if no
// call of the table has it.
func abiBlock(a *abi, table []rule) (p []bpf.Instruction) {
	for c := unknownCall + 1; c < numCalls; c++ {
		nr, ok := a.numbers[c]
		if !ok {
			continue
		}
		var group []bpf.Instruction
		for _, r := range table {
			if r.call == c {
				group = append(group, alternative(r)...)
			}
		}
		if len(group) == 0 {
			continue
		}
		group = append(group, bpf.RetConstant{Val: retAllow})
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: uint8(len(group))})
		p = append(p, group...)
	}
	return p
}

// alternative is a rule as instructions that end in its action, or behind it.
func alternative(r rule) []bpf.Instruction {
	tail := []bpf.Instruction{bpf.RetConstant{Val: r.action}}
	for i := len(r.when) - 1; i >= 0; i-- {
		w := r.when[i]
		head := []bpf.Instruction{bpf.LoadAbsolute{Off: offArg(w.arg), Size: 4}}
		if w.mask != 0 {
			head = append(head, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: w.mask})
		}
		head = append(head, bpf.JumpIf{Cond: w.test, Val: w.val, SkipFalse: uint8(len(tail))})
		tail = append(head, tail...)
	}
	return tail
}
