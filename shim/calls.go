package shim

// call is a system call that the filter knows, whatever its number is.
type call uint8

const (
	unknownCall call = iota
	callSocket
	callBind
	callConnect
	callListen
	callGetsockname
	callGetpeername
	callGetsockopt
	callSetsockopt
	callSendto
	callSendmsg
	callSendmmsg
	callRecvfrom
	callRecvmsg
	callRecvmmsg
	callIoctl
	callDup
	callDup2
	callDup3
	callFcntl
	callFcntl64
	callEpollCreate
	callEpollCreate1
	callIOUringSetup
	callUnshare
	callSetns
	callLandlock // landlock_restrict_self
	callSocketcall
	numCalls
)

// abi is one way in which a program can call the kernel.
type abi struct {
	name    string
	audit   uint32 // AUDIT_ARCH_*
	wide    bool   // pointers and lengths have 64 bits
	numbers map[call]uint32
	calls   map[uint32]call // the reverse of numbers
}

// newABI returns an ABI with these call numbers.
func newABI(name string, audit uint32, wide bool, numbers map[call]uint32) abi {
	a := abi{name: name, audit: audit, wide: wide, numbers: numbers, calls: map[uint32]call{}}
	for c, n := range numbers {
		a.calls[n] = c
	}
	return a
}

// abiOf returns the ABI of a notification: one to which the call belongs, or
// nil.
func abiOf(audit uint32, nr int32) *abi {
	for i := range abis {
		if abis[i].audit == audit && abis[i].call(nr) != unknownCall {
			return &abis[i]
		}
	}
	return nil
}

// call returns the call with a number, or unknownCall.
func (a *abi) call(nr int32) call { return a.calls[uint32(nr)] }

// socketcalls are the first argument of socketcall(2), which 32-bit x86
// programs use in the place of a system call each.
var socketcalls = map[uint64]call{
	1: callSocket, 2: callBind, 3: callConnect, 4: callListen, 6: callGetsockname, 7: callGetpeername,
	11: callSendto, 12: callRecvfrom, 14: callSetsockopt, 15: callGetsockopt,
	16: callSendmsg, 17: callRecvmsg, 19: callRecvmmsg, 20: callSendmmsg,
}
