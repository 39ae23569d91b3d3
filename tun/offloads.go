package tun

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Offloads is what the kernel granted: the kinds of packet that may arrive
// unfinished, because it leaves the rest of the work to the reader. Without a
// grant it finishes them itself before they are read. What is written is not
// affected: the kernel takes every kind it knows.
type Offloads struct {
	Checksum bool // packets whose transport checksum is still to be computed
	TSO4     bool // TCP super-packets over IPv4
	TSO6     bool // TCP super-packets over IPv6
	USO      bool // UDP super-packets (UDP_SEGMENT) over both; Linux 6.2
}

// String lists what was granted, for one log line.
func (o Offloads) String() string {
	var words []string
	for _, w := range []struct {
		granted bool
		name    string
	}{
		{o.Checksum, "checksum"},
		{o.TSO4, "tso4"},
		{o.TSO6, "tso6"},
		{o.USO, "uso"},
	} {
		if w.granted {
			words = append(words, w.name)
		}
	}
	if words == nil {
		return "none"
	}
	return strings.Join(words, " ")
}

// The set that every kernel grants, and the one that some do.
// Without TUN_F_TSO_ECN the kernel splits the rare super-packet that has CWR
// set; nothing is lost by that but a little time.
const (
	tcpOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	udpOffloads = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// negotiate asks for everything, then for less, and says what was granted. A
// refused request changes nothing. The setting belongs to the interface, so
// every further queue must ask for the same.
func negotiate(fd int) (Offloads, error) {
	o := Offloads{Checksum: true, TSO4: true, TSO6: true, USO: true}
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcpOffloads|udpOffloads) == nil {
		return o, nil
	}
	o.USO = false
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcpOffloads); err != nil {
		// Every kernel since 2.6.27 grants this much.
		return Offloads{}, fmt.Errorf("negotiate checksum and TCP segmentation offload: %w", err)
	}
	return o, nil
}
