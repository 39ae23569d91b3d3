package shim

import "golang.org/x/sys/unix"

var abis = []abi{
	newABI("x86-64", unix.AUDIT_ARCH_X86_64, true, map[call]uint32{
		callSocket: 41, callConnect: 42, callSendto: 44, callRecvfrom: 45, callSendmsg: 46, callRecvmsg: 47,
		callBind: 49, callListen: 50, callGetsockname: 51, callGetpeername: 52, callSetsockopt: 54, callGetsockopt: 55,
		callRecvmmsg: 299, callSendmmsg: 307, callIoctl: 16,
		callDup: 32, callDup2: 33, callDup3: 292, callFcntl: 72,
		callEpollCreate: 213, callEpollCreate1: 291, callIOUringSetup: 425, callUnshare: 272, callSetns: 308,
	}),
	newABI("i386", unix.AUDIT_ARCH_I386, false, map[call]uint32{
		callSocketcall: 102, callSocket: 359, callBind: 361, callListen: 363, callConnect: 362, callGetsockopt: 365, callSetsockopt: 366,
		callGetsockname: 367, callGetpeername: 368, callSendto: 369, callSendmsg: 370, callRecvfrom: 371, callRecvmsg: 372,
		callRecvmmsg: 337, callSendmmsg: 345, callIoctl: 54,
		callDup: 41, callDup2: 63, callDup3: 330, callFcntl: 55, callFcntl64: 221,
		callEpollCreate: 254, callEpollCreate1: 329, callIOUringSetup: 425, callUnshare: 310, callSetns: 346,
	}),
}
