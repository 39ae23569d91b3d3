package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tnat64d/cmd/internal/bus"
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
		if strings.HasPrefix(l.Alias, aliasPrefix) {
			continue
		}
		for _, a := range h.Addrs {
			if a.Link != l.Index || !inner.Contains(a.Prefix.Addr()) {
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

// running returns which of the programs run in this network namespace, as far
// as this user may see that.
func running(names []string) []string {
	own, _ := os.Readlink("/proc/self/ns/net")
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	var found []string
	for _, comm := range comms {
		b, err := os.ReadFile(comm)
		if err != nil {
			continue
		}
		dir := filepath.Dir(comm)
		// Others' processes are closed to ordinary users: they may be here.
		if ns, err := os.Readlink(dir + "/ns/net"); err == nil && ns != own {
			continue
		}
		name := strings.TrimSpace(string(b))
		if _, err := strconv.Atoi(filepath.Base(dir)); err != nil {
			continue
		}
		for _, n := range names {
			if name == n {
				found = append(found, n)
			}
		}
	}
	return found
}
