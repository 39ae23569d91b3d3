package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tnat64d/clat/plan"
	"tnat64d/internal/bus"
)

// translators are programs that may be a CLAT, by the name of their process.
var translators = []string{"clatd", "tayga", "tundra-nat64", "tundra"}

// manager is the name of NetworkManager.
const manager = "NetworkManager"

// findOthers looks for CLATs that are not tnat64d's, as tnat64d does, and asks
// NetworkManager whether one of them is its. Programs that are known for it and
// have no CLAT on this host are listed as not alive.
func findOthers(ctx context.Context, b *bus.Bus, h host, u Uplink) []Other {
	managed, _, err := b.NMCLAT(ctx, u.Name)
	managed = managed && err == nil
	return othersOf(plan.ForeignCLATs(h.Observed, u.Index), u, managed, running(translators))
}

// othersOf names the CLATs of others on the uplink u. managed says that
// NetworkManager has given it the address of a CLAT; programs are the names of
// known translators that run.
func othersOf(all []plan.ForeignCLAT, u Uplink, managed bool, programs []string) []Other {
	var others []Other
	for _, f := range all {
		o := Other{Name: "another program", Evidence: f.Evidence(), Alive: f.Alive()}
		switch {
		case f.Manager() || managed && f.Link.Index == u.Index:
			o.Name = manager
		case len(programs) > 0 && f.Link.Kind == "tun":
			o.Name = programs[0]
		}
		others = append(others, o)
	}
	if len(others) == 0 {
		for _, p := range programs {
			others = append(others, Other{Name: p, Evidence: "it runs, but has no address of 192.0.0.0/29 with an IPv4 default route"})
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
