package clat

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Former versions made the kernel forward where BPF was refused. They changed
// sysctls, which their journal records, and added proxy neighbours, a rule and
// routes. This file restores what such a version left
// behind when it was killed and then replaced; this version changes no sysctl.

// Sysctl names net.ipv6.conf.LINK.KEY. LINK may be "all" or "default".
type Sysctl struct {
	Link, Key string
}

// formerKeys are the sysctls that former versions changed.
var formerKeys = []string{"accept_ra", "disable_ipv6", "force_forwarding", "forwarding", "proxy_ndp"}

// String returns the name as sysctl(8) takes it: with slashes for the dots of
// a link's name.
func (s Sysctl) String() string {
	return "net.ipv6.conf." + strings.ReplaceAll(s.Link, ".", "/") + "." + s.Key
}

func (s Sysctl) path() string { return "/proc/sys/net/ipv6/conf/" + s.Link + "/" + s.Key }

// valid rejects names from a journal that lead outside net.ipv6.conf.
func (s Sysctl) valid() bool {
	return s.Link != "" && s.Link != "." && s.Link != ".." && !strings.Contains(s.Link, "/") && slices.Contains(formerKeys, s.Key)
}

// Change is a sysctl that a former version changed.
type Change struct {
	Sysctl
	Was, Is int
}

// restoreSysctls restores the sysctls that the journal records, the last
// change first, unless another program has changed them since. Changes that
// cannot be undone stay in the journal.
func restoreSysctls(j *Journal) (restored []Change, err error) {
	var errs []error
	for _, c := range slices.Backward(j.Changes()) {
		ok, err := c.undo()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("restore %s: %w", c.Sysctl, err))
			continue
		}
		if ok {
			restored = append(restored, c)
		}
		errs = append(errs, j.Unset(c.Sysctl))
	}
	return restored, errors.Join(errs...)
}

// undo writes the old value, in the network namespace of the calling thread,
// and reports whether the new one was still in force.
func (c Change) undo() (bool, error) {
	f, err := os.OpenFile(c.path(), os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, 32)
	n, err := f.ReadAt(b, 0)
	if n == 0 && err != nil {
		return false, err
	}
	if now, err := strconv.Atoi(string(bytes.TrimSpace(b[:n]))); err != nil || now != c.Is {
		return false, err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(c.Was)), 0)
	return err == nil, err
}
