package shim

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exhausted reports whether err says that we, not the program, have run out of
// descriptors or memory.
func exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// failsWhenExhausted are the calls that fail with ENOBUFS when the supervisor cannot
// look at their socket. What the kernel would do with that is wrong: it is another
// socket than the program thinks. The others are left to the kernel.
var failsWhenExhausted = [numCalls]bool{
	callSocket: true, callConnect: true, callBind: true, callListen: true, callGetpeername: true, callGetsockname: true, callGetsockopt: true,
	callSendto: true, callSendmsg: true, callSendmmsg: true, callRecvfrom: true, callRecvmsg: true, callRecvmmsg: true,
}

// runOut notes that the supervisor could not handle a call for want of descriptors.
func (t *trapped) runOut(err error) {
	if !exhausted(err) {
		return
	}
	t.lacking = true
	t.say("exhausted", "the supervisor is out of descriptors or memory: %v; calls fail with ENOBUFS", err)
	if !failsWhenExhausted[t.call] {
		t.copied.forget() // the call may be one that duplicates a socket
	}
}

// whenExhausted is the answer to a call that would be left to the kernel.
func (t *trapped) whenExhausted(r reply) reply {
	if t.lacking && r.proceed && failsWhenExhausted[t.call] {
		return fail(unix.ENOBUFS)
	}
	return r
}
