package shim

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// giveTo makes a socket that root's supervisor has opened for a thread belong to the
// thread's user, who need not be root any more. Firewall and routing rules that are
// about a user look at the owner of the socket (sk_uid).
func giveTo(tid, fd int) error {
	if unix.Geteuid() != 0 {
		return nil // the program cannot be anybody else
	}
	uid, err := userOf(tid)
	if err != nil || uid == 0 {
		return err
	}
	return unix.Fchown(fd, uid, -1)
}

// userOf returns the user whom files that a thread creates belong to (fsuid).
func userOf(tid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(b, []byte("\nUid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	ids := bytes.Fields(line) // real, effective, saved, of files
	if len(ids) != 4 {
		return 0, unix.EBADMSG
	}
	return strconv.Atoi(string(ids[3]))
}
