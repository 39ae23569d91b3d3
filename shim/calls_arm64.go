package shim

import "golang.org/x/sys/unix"

var abis = []abi{
	newABI("arm64", unix.AUDIT_ARCH_AARCH64, true, map[call]uint32{
		callSocket: 198, callBind: 200, callListen: 201, callConnect: 203, callGetsockname: 204, callGetpeername: 205,
		callSendto: 206, callRecvfrom: 207, callSetsockopt: 208, callGetsockopt: 209, callSendmsg: 211, callRecvmsg: 212,
		callRecvmmsg: 243, callSendmmsg: 269, callIoctl: 29,
		callDup: 23, callDup3: 24, callFcntl: 25, callEpollCreate1: 20, callIOUringSetup: 425, callUnshare: 97, callSetns: 268, callLandlock: 446,
	}),
	newABI("arm", unix.AUDIT_ARCH_ARM, false, map[call]uint32{
		callSocket: 281, callBind: 282, callListen: 284, callConnect: 283, callGetsockname: 286, callGetpeername: 287,
		callSendto: 290, callRecvfrom: 292, callSetsockopt: 294, callGetsockopt: 295, callSendmsg: 296, callRecvmsg: 297,
		callRecvmmsg: 365, callSendmmsg: 374, callIoctl: 54,
		callDup: 41, callDup2: 63, callDup3: 358, callFcntl: 55, callFcntl64: 221,
		callEpollCreate: 250, callEpollCreate1: 357, callIOUringSetup: 425, callUnshare: 337, callSetns: 375, callLandlock: 446,
	}),
}
