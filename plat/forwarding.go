package plat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const forwardIPv6 = "net/ipv6/conf/all/forwarding"

// forwarding are the sysctls of a router, as paths below /proc/sys.
var forwarding = []string{"net/ipv4/ip_forward", forwardIPv6}

// ErrNoForwarding lists the sysctls that keep the kernel from forwarding.
type ErrNoForwarding struct{ Sysctls []string }

func (e *ErrNoForwarding) Error() string {
	verb := " is 0"
	if len(e.Sysctls) > 1 {
		verb = " are 0"
	}
	return "the kernel does not forward packets: " + strings.Join(e.Sysctls, " and ") + verb
}

// CheckForwarding returns an [*ErrNoForwarding] if this host is no router.
func CheckForwarding() error {
	var off []string
	for _, s := range forwarding {
		on, err := enabled(s)
		if err != nil {
			return err
		}
		if !on {
			off = append(off, dotted(s))
		}
	}
	if len(off) > 0 {
		return &ErrNoForwarding{off}
	}
	return nil
}

// Sysctl is one that has been set.
type Sysctl struct{ Name, Value string }

// SetForwarding makes this host a router and returns the sysctls that it has
// set. They stay. A router ignores router advertisements where accept_ra is 1,
// and the kernel drops the default routes from there: unless this host advertises
// itself on a link, it goes on to accept them, by accept_ra 2.
func SetForwarding(advertised []string) (set []Sysctl, err error) {
	for _, s := range forwarding {
		on, err := enabled(s)
		if err != nil {
			return set, err
		}
		if on {
			continue
		}
		if s == forwardIPv6 {
			kept, err := keepAdvertisements(advertised)
			set = append(set, kept...)
			if err != nil {
				return set, err
			}
		}
		if err := write(s, "1"); err != nil {
			return set, err
		}
		set = append(set, Sysctl{dotted(s), "1"})
	}
	return set, nil
}

// keepAdvertisements sets accept_ra to 2 on links where it is 1.
func keepAdvertisements(advertised []string) (set []Sysctl, err error) {
	links, err := os.ReadDir("/proc/sys/net/ipv6/conf")
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	for _, l := range links {
		name := l.Name()
		if name == "all" || name == "default" || name == "lo" || slices.Contains(advertised, name) {
			continue
		}
		s := "net/ipv6/conf/" + name + "/accept_ra"
		b, err := os.ReadFile(filepath.Join("/proc/sys", s))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the interface has gone
		}
		if err != nil {
			return set, fmt.Errorf("read sysctl %s: %w", dotted(s), err)
		}
		if strings.TrimSpace(string(b)) != "1" {
			continue
		}
		if err := write(s, "2"); err != nil {
			return set, err
		}
		set = append(set, Sysctl{dotted(s), "2"})
	}
	return set, nil
}

// enabled reports whether a sysctl is not 0.
func enabled(s string) (bool, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", s))
	if err != nil {
		return false, fmt.Errorf("read sysctl %s: %w", dotted(s), err)
	}
	return strings.TrimSpace(string(b)) != "0", nil
}

func write(s, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", s), []byte(value+"\n"), 0); err != nil {
		return fmt.Errorf("set sysctl %s: %w", dotted(s), err)
	}
	return nil
}

// dotted writes a sysctl as sysctl(8) does: a dot in the name of an interface
// becomes a slash.
func dotted(s string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(s)
}
