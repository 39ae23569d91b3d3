package shim

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// bigEndianData is struct seccomp_data as x/net's virtual machine loads it:
// with words in network byte order.
func bigEndianData(arch, nr uint32, args [6]uint64) []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[offNumber:], nr)
	binary.BigEndian.PutUint32(b[offArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(b[offArg(i):], uint32(a))
		binary.BigEndian.PutUint32(b[offArg(i)+4:], uint32(a>>32))
	}
	return b
}

// verdict is what a table means, without BPF.
func verdict(table []rule, c call, args [6]uint64) uint32 {
	for _, r := range table {
		if r.call != c {
			continue
		}
		all := true
		for _, w := range r.when {
			v := uint32(args[w.arg])
			if w.mask != 0 {
				v &= w.mask
			}
			switch w.test {
			case bpf.JumpEqual:
				all = all && v == w.val
			case bpf.JumpNotEqual:
				all = all && v != w.val
			case bpf.JumpGreaterOrEqual:
				all = all && v >= w.val
			case bpf.JumpBitsSet:
				all = all && v&w.val != 0
			}
		}
		if all {
			return r.action
		}
	}
	return retAllow
}

func TestFilterDoesWhatTheTableSays(t *testing.T) {
	interesting := []uint64{0, 1, 2, 12, 15, 16, 24, 25, 28, 39, 62, 1030, 0x541b, 0x8905, 0x8910, 0x8933, 0x89ff, 0x9000, 0x20000000, 0x20000040, 2 | 0x80800, 0xffffffff, 1 << 40}
	for _, hidden := range []bool{true, false} {
		table := rules(hidden)
		raw, err := assemble(table)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > 4096 {
			t.Fatalf("%d instructions", len(raw))
		}
		insns, _ := bpf.Disassemble(raw)
		vm, err := bpf.NewVM(insns)
		if err != nil {
			t.Fatal(err)
		}
		run := func(arch, nr uint32, args [6]uint64) uint32 {
			v, err := vm.Run(bigEndianData(arch, nr, args))
			if err != nil {
				t.Fatal(err)
			}
			return uint32(v)
		}
		for i := range abis {
			a := &abis[i]
			for i := range uint32(1200) {
				nr := i
				if i >= 600 { // numbers of x32
					nr = 0x40000000 | i - 600
				}
				c := unknownCall
				if of := abiOf(a.audit, int32(nr)); of != nil {
					c = of.call(int32(nr))
				}
				for arg := range 6 {
					for _, v := range interesting {
						for _, w := range interesting {
							args := [6]uint64{}
							args[arg], args[(arg+1)%6] = v, w
							if got, want := run(a.audit, nr, args), verdict(table, c, args); got != want {
								t.Fatalf("%s, call %d (%d), %x: %#x, want %#x", a.name, nr, c, args, got, want)
							}
						}
						if c == unknownCall {
							break // its arguments are not looked at
						}
					}
				}
			}
		}
		if got := run(0x1234, abis[0].numbers[callConnect], [6]uint64{}); got != retAllow {
			t.Errorf("an unknown architecture gets %#x", got)
		}
	}
}

// What a program does most of the time must not be trapped.
func TestFilterLeavesAlone(t *testing.T) {
	for _, c := range []struct {
		name string
		call call
		args [6]uint64
	}{
		{"send on a connected socket", callSendto, [6]uint64{3, 0, 1000, 0, 0, 0}},
		{"sendto of an IPv4 datagram", callSendto, [6]uint64{3, 0, 1000, 0, 1, 16}},
		{"recvfrom", callRecvfrom, [6]uint64{3, 0, 1000, 0, 1, 1}},
		{"sendmsg", callSendmsg, [6]uint64{3, 0, unix.MSG_NOSIGNAL}},
		{"Unix socket", callSocket, [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}},
		{"accept", unknownCall, [6]uint64{3}},
		{"IPv6 datagram socket", callSocket, [6]uint64{unix.AF_INET6, unix.SOCK_DGRAM}},
		{"FIONREAD", callIoctl, [6]uint64{3, 0x541b}},
		{"F_GETFL", callFcntl, [6]uint64{3, unix.F_GETFL}},
		{"TCP_NODELAY", callSetsockopt, [6]uint64{3, unix.SOL_TCP, unix.TCP_NODELAY}},
	} {
		if got := verdict(rules(true), c.call, c.args); got != retAllow {
			t.Errorf("%s: %#x", c.name, got)
		}
	}
}

func TestIOUringIsRefusedAsIfItWereMissing(t *testing.T) {
	if got := verdict(rules(true), callIOUringSetup, [6]uint64{}); got != retErrno|uint32(unix.ENOSYS) {
		t.Errorf("%#x", got)
	}
}
