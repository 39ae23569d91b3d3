package shim

import "golang.org/x/sys/unix"

const x32 = 0x40000000 // __X32_SYSCALL_BIT

var abis = []abi{
	newABI("x86-64", unix.AUDIT_ARCH_X86_64, true, map[call]uint32{
		callSocket: 41, callConnect: 42, callSendto: 44, callRecvfrom: 45, callSendmsg: 46, callRecvmsg: 47,
		callBind: 49, callListen: 50, callGetsockname: 51, callGetpeername: 52, callSetsockopt: 54, callGetsockopt: 55,
		callRecvmmsg: 299, callSendmmsg: 307, callIoctl: 16,
		callDup: 32, callDup2: 33, callDup3: 292, callFcntl: 72,
		callEpollCreate: 213, callEpollCreate1: 291, callIOUringSetup: 425, callUnshare: 272, callSetns: 308, callLandlock: 446,
	}),
	// x32 tells itself apart by a bit of the number. Calls that pass structures
	// with pointers have numbers of their own.
	newABI("x32", unix.AUDIT_ARCH_X86_64, false, map[call]uint32{
		callSocket: x32 | 41, callConnect: x32 | 42, callSendto: x32 | 44, callRecvfrom: x32 | 517, callSendmsg: x32 | 518, callRecvmsg: x32 | 519,
		callBind: x32 | 49, callListen: x32 | 50, callGetsockname: x32 | 51, callGetpeername: x32 | 52, callSetsockopt: x32 | 541, callGetsockopt: x32 | 542,
		callRecvmmsg: x32 | 537, callSendmmsg: x32 | 538, callIoctl: x32 | 514,
		callDup: x32 | 32, callDup2: x32 | 33, callDup3: x32 | 292, callFcntl: x32 | 72,
		callEpollCreate: x32 | 213, callEpollCreate1: x32 | 291, callIOUringSetup: x32 | 425, callUnshare: x32 | 272, callSetns: x32 | 308, callLandlock: x32 | 446,
	}),
	newABI("i386", unix.AUDIT_ARCH_I386, false, map[call]uint32{
		callSocketcall: 102, callSocket: 359, callBind: 361, callListen: 363, callConnect: 362, callGetsockopt: 365, callSetsockopt: 366,
		callGetsockname: 367, callGetpeername: 368, callSendto: 369, callSendmsg: 370, callRecvfrom: 371, callRecvmsg: 372,
		callRecvmmsg: 337, callSendmmsg: 345, callIoctl: 54,
		callDup: 41, callDup2: 63, callDup3: 330, callFcntl: 55, callFcntl64: 221,
		callEpollCreate: 254, callEpollCreate1: 329, callIOUringSetup: 425, callUnshare: 310, callSetns: 346, callLandlock: 446,
	}),
}
