package host

import (
	"bytes"
	"os"
	"strconv"

	"tnat64d/clat/plan"
)

// RestoreSysctl writes the value that a sysctl had before c, in the network
// namespace of the calling thread, unless another program has changed it since.
// It reports whether it did.
func (k former) RestoreSysctl(c plan.SysctlChange) (bool, error) {
	f, err := os.OpenFile(sysctlPath("ipv6", c.Link, c.Key), os.O_RDWR, 0)
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
