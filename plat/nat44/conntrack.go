package nat44

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Conntrack is the use of the kernel's connection tracking in this network
// namespace, by whomever. A connection through the gateway takes an entry of IPv4,
// and one of IPv6 where other rules of the host track IPv6.
type Conntrack struct {
	Entries int
	Max     int // 0: no limit
	// Dropped counts the packets that the kernel has dropped because it could not
	// track their connection, mostly as the table was full, since the namespace
	// was made. EarlyDropped counts connections without an answer that it has
	// forgotten to make room for others. Both are 0 on kernels that do not count
	// (CONFIG_NF_CONNTRACK_PROCFS).
	Dropped      uint64
	EarlyDropped uint64
}

// ReadConntrack reads them. It returns nil where the kernel tracks no connections.
func ReadConntrack() (*Conntrack, error) { return readConntrack(os.DirFS("/proc")) }

func readConntrack(proc fs.FS) (*Conntrack, error) {
	var c Conntrack
	for name, n := range map[string]*int{"nf_conntrack_count": &c.Entries, "nf_conntrack_max": &c.Max} {
		b, err := fs.ReadFile(proc, "sys/net/netfilter/"+name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read sysctl net.netfilter.%s: %w", name, err)
		}
		if *n, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
			return nil, fmt.Errorf("read sysctl net.netfilter.%s: %w", name, err)
		}
	}
	// Not net/stat, which is about the process's first thread.
	b, err := fs.ReadFile(proc, "thread-self/net/stat/nf_conntrack")
	if errors.Is(err, fs.ErrNotExist) {
		return &c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the statistics of connection tracking: %w", err)
	}
	if err := c.addStatistics(string(b)); err != nil {
		return nil, fmt.Errorf("read the statistics of connection tracking: %w", err)
	}
	return &c, nil
}

// addStatistics adds what /proc/net/stat/nf_conntrack has: a line of names, and
// one of hexadecimal numbers for each processor. The columns differ among kernels.
func (c *Conntrack) addStatistics(text string) error {
	head, rest, _ := strings.Cut(text, "\n")
	columns := map[string]int{}
	for i, name := range strings.Fields(head) {
		columns[name] = i
	}
	for name, sum := range map[string]*uint64{"drop": &c.Dropped, "early_drop": &c.EarlyDropped} {
		i, ok := columns[name]
		if !ok {
			return fmt.Errorf("there is no column %q", name)
		}
		for line := range strings.Lines(rest) {
			numbers := strings.Fields(line)
			if i >= len(numbers) {
				return fmt.Errorf("a line has %d columns, the first one %d", len(numbers), len(columns))
			}
			n, err := strconv.ParseUint(numbers[i], 16, 64)
			if err != nil {
				return fmt.Errorf("column %q: %w", name, err)
			}
			*sum += n
		}
	}
	return nil
}
