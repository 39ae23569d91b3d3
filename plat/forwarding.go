package plat

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// forwarding are the sysctls of a router, as paths below /proc/sys.
var forwarding = []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"}

// ErrNoForwarding lists the sysctls that keep the kernel from forwarding.
type ErrNoForwarding struct{ Sysctls []string }

func (e *ErrNoForwarding) Error() string {
	return "the kernel does not forward packets: " + strings.Join(e.Sysctls, ", ") + " is 0"
}

// CheckForwarding returns an [*ErrNoForwarding] if this host is no router.
func CheckForwarding() error {
	var off []string
	for _, s := range forwarding {
		b, err := os.ReadFile(filepath.Join("/proc/sys", s))
		if err != nil {
			return fmt.Errorf("read sysctl %s: %w", dotted(s), err)
		}
		if strings.TrimSpace(string(b)) == "0" {
			off = append(off, dotted(s))
		}
	}
	if len(off) > 0 {
		return &ErrNoForwarding{off}
	}
	return nil
}

// SetForwarding makes this host a router and returns the sysctls that it has set
// to 1. They stay.
func SetForwarding() (set []string, err error) {
	for _, s := range forwarding {
		path := filepath.Join("/proc/sys", s)
		b, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(b)) == "0" {
			err = os.WriteFile(path, []byte("1\n"), 0)
			set = append(set, dotted(s))
		}
		if err != nil {
			return set, fmt.Errorf("set sysctl %s: %w", dotted(s), err)
		}
	}
	return set, nil
}

func dotted(s string) string { return strings.ReplaceAll(s, "/", ".") }
