package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tnat64d/clat/plan"
	"tnat64d/internal/bus"
)

// translators are programs that may be a CLAT, by the name of their process.
var translators = []string{"clatd", "tayga", "tundra-nat64", "tundra"}

// findOthers looks for CLATs that are not tnat64d's: NetworkManager's, an
// address of 192.0.0.0/29 on an interface that is not ours, or a program that
// is known for it.
func findOthers(ctx context.Context, b *bus.Bus, h host, u Uplink) []Other {
	var others []Other
	if active, why, err := b.NMCLAT(ctx, u.Name); err == nil && active {
		others = append(others, Other{Name: "NetworkManager", Evidence: why})
	}
	programs := running(translators)
	for _, l := range h.Links {
		if h.IsOurs(l) {
			continue
		}
		for _, a := range h.Addrs {
			if a.Link != l.Index || !plan.ServiceContinuityPrefix.Contains(a.Prefix.Addr()) {
				continue
			}
			name := "another program"
			switch {
			case len(others) > 0 && others[0].Name == "NetworkManager":
				continue // it is its address
			case len(programs) > 0:
				name = programs[0]
			}
			others = append(others, Other{Name: name, Evidence: fmt.Sprintf("%s has the address %s", l.Name, a.Prefix.Addr())})
		}
	}
	if len(others) == 0 {
		for _, p := range programs {
			others = append(others, Other{Name: p, Evidence: "it is running"})
		}
	}
	return others
}

// running returns which of the programs run in this network namespace. Those
// of which this user may not see where they run are left out: a container is as
// likely.
func running(names []string) []string {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil
	}
	comms, _ := filepath.Glob("/proc/[0-9]*/comm") // the only error is a bad pattern
	var found []string
	for _, comm := range comms {
		b, err := os.ReadFile(comm)
		if err != nil {
			continue // it has ended
		}
		name := strings.TrimSpace(string(b))
		if !slices.Contains(names, name) || slices.Contains(found, name) {
			continue
		}
		if ns, err := os.Readlink(filepath.Join(filepath.Dir(comm), "ns/net")); err == nil && ns == own {
			found = append(found, name)
		}
	}
	return found
}
