package steer

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tnat64d/internal/cause"
)

// The library finds out what the kernel supports by probes, some of which take
// any error, a lack of descriptors for one, for "not supported" and remember
// that until the process ends. So its word is checked by doing: by bare system
// calls, which keep the errno.

// spareDescriptors are what loading and attaching opens besides maps and
// programs: links, a netlink socket, the library's probes.
const spareDescriptors = 12

// checkDescriptors returns an error if loading spec would run out of file
// descriptors half way.
func checkDescriptors(spec *ebpf.CollectionSpec) error {
	return cause.Descriptors(len(spec.Maps) + len(spec.Programs) + spareDescriptors)
}

// checkRefusal returns err, the reason why programs could not be loaded, or a
// [cause.Lack] if the library took a lack of something for a refusal.
func checkRefusal(err error) error {
	if errors.Is(err, unix.EPERM) && memlockTooLow() {
		return &cause.Lack{What: fmt.Sprintf("%v, because RLIMIT_MEMLOCK is too low", err), Err: err}
	}
	if err == nil || !errors.Is(err, ebpf.ErrNotSupported) || cause.Of(err) == cause.Resource {
		return err
	}
	tried := tryBPF()
	switch {
	case tried == nil:
		return &cause.Lack{What: fmt.Sprintf("%v, although the kernel supports it: out of memory", err), Err: err}
	case cause.Of(tried) == cause.Resource:
		return &cause.Lack{What: tried.Error(), Err: tried}
	}
	return fmt.Errorf("%w: %w", err, tried)
}

// memlockTooLow reports whether the kernel charges maps to RLIMIT_MEMLOCK, as it
// did before Linux 5.11, and prepare could not raise that.
func memlockTooLow() bool {
	var name unix.Utsname
	var limit unix.Rlimit
	if unix.Uname(&name) != nil || unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) != nil || limit.Cur == unix.RLIM_INFINITY {
		return false
	}
	return chargesMemlock(unix.ByteSliceToString(name.Release[:])) && mayLoad()
}

func chargesMemlock(release string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return n == 2 && (major < 5 || major == 5 && minor < 11)
}

// mayLoad reports whether the process has the rights that BPF takes, which are
// those of the initial user namespace.
func mayLoad() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&head, &data[0]) != nil {
		return false
	}
	has := func(c int) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	ids, err := os.ReadFile("/proc/self/uid_map")
	initial := err == nil && slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"})
	return initial && (has(unix.CAP_BPF) || has(unix.CAP_SYS_ADMIN))
}

// tryBPF makes maps with the flags that our programs need, and a program that
// does nothing.
func tryBPF() error {
	const (
		readOnlyProgram = 1 << 7  // BPF_F_RDONLY_PROG
		mmapable        = 1 << 10 // BPF_F_MMAPABLE
		innerMap        = 1 << 12 // BPF_F_INNER_MAP
	)
	for _, flags := range []uint32{0, readOnlyProgram, mmapable, innerMap} {
		// struct { map_type, key_size, value_size, max_entries, map_flags }
		attr := [...]uint32{unix.BPF_MAP_TYPE_ARRAY, 4, 4, 1, flags}
		fd, err := bpf(unix.BPF_MAP_CREATE, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
		if err != nil {
			return fmt.Errorf("create a map with flags %#x: %w", flags, err)
		}
		unix.Close(fd)
	}
	instructions := [...]uint64{0xb7, 0x95} // r0 = 0; exit, on a little-endian machine
	if !littleEndian() {
		instructions = [...]uint64{0xb7 << 56, 0x95 << 56}
	}
	license := []byte("MIT\x00")
	attr := struct {
		progType, count       uint32
		instructions, license uint64
		rest                  [4]uint32
	}{
		progType: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(instructions)),
		instructions: uint64(uintptr(unsafe.Pointer(&instructions))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(&instructions)
	runtime.KeepAlive(license)
	if err != nil {
		return fmt.Errorf("load a program: %w", err)
	}
	return unix.Close(fd)
}

func littleEndian() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 1
}

// bpf is bpf(2). A signal may interrupt the verifier (EAGAIN): it is asked
// again, but not for ever.
func bpf(cmd int, attr unsafe.Pointer, size uintptr) (fd int, err error) {
	for range 10 {
		r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
		if errno == 0 {
			return int(r), nil
		}
		if err = errno; errno != unix.EAGAIN && errno != unix.EINTR {
			break
		}
	}
	return -1, err
}
