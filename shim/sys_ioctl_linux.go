package shim

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sizeofIfreq is the size of struct ifreq, on 64-bit and 32-bit programs alike
// as far as the plain requests below fill it.
const sizeofIfreq = 40

// plainRequests are the ioctl requests that read a struct ifreq without a
// pointer in it.
var plainRequests = map[uint64]bool{
	unix.SIOCGIFNAME: true, unix.SIOCGIFFLAGS: true, unix.SIOCGIFADDR: true, unix.SIOCGIFDSTADDR: true,
	unix.SIOCGIFBRDADDR: true, unix.SIOCGIFNETMASK: true, unix.SIOCGIFMETRIC: true, unix.SIOCGIFMTU: true,
	unix.SIOCGIFHWADDR: true, unix.SIOCGIFINDEX: true, unix.SIOCGIFTXQLEN: true,
}

// answerIoctl makes a socket that is not what it seems show the host's interfaces.
func answerIoctl(t *trapped) reply {
	old, _, err := t.own()
	if err != nil {
		return proceed
	}
	defer unix.Close(old)
	k, err := t.inspect(old)
	if err != nil {
		return proceed
	}
	if r, ok := t.sockets.get(k.cookie); !k.hidden && !ok {
		return proceed
	} else if ok && r.mapped {
		return proceed
	}
	request := t.args[1] & 0xffffffff
	if !plainRequests[request] || !t.abi.wide {
		backToHost(t)
		return proceed
	}
	var ifreq [sizeofIfreq]byte
	if t.mem.read(t.args[2], ifreq[:]) != nil {
		return fail(unix.EFAULT)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(s)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(s), uintptr(request), uintptr(unsafe.Pointer(&ifreq))); e != 0 {
		return fail(e)
	}
	if t.mem.write(t.args[2], ifreq[:]) != nil {
		return fail(unix.EFAULT)
	}
	return reply{}
}
