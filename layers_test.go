package tnat64d

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const self = "tnat64d"

// layers says what the packages may import besides the standard library:
// imports point one way. A key covers the packages below
// it unless they have a key of their own; an entry covers what is below it too.
var layers = map[string][]string{
	".":                  {},
	"siit":               {"gvisor.dev/gvisor/pkg/tcpip/checksum"},
	"tun":                {"golang.org/x/sys"},
	"tun/tuntest":        {"tnat64d/tun"},
	"pref64":             {"tnat64d/internal/backoff", "tnat64d/siit", "golang.org/x/net", "golang.org/x/sys"},
	"datapath":           {"tnat64d/datapath", "tnat64d/siit", "tnat64d/tun", "tnat64d/internal/cause", "github.com/vishvananda/netlink", "golang.org/x/sys"},
	"datapath/engine":    {"tnat64d/siit", "tnat64d/tun"},
	"datapath/steer":     {"tnat64d/siit", "tnat64d/datapath/steerable", "tnat64d/internal/cause", "tnat64d/internal/dump", "github.com/cilium/ebpf", "github.com/vishvananda/netlink", "golang.org/x/sys"},
	"datapath/steerable": {"github.com/vishvananda/netlink"},
	"datapath/steernft":  {"tnat64d/internal/cause", "tnat64d/datapath/steerable", "github.com/vishvananda/netlink", "golang.org/x/sys"},
	"plat":               {"tnat64d/plat/nat44", "tnat64d/siit", "tnat64d/datapath", "tnat64d/tun", "tnat64d/internal/dump", "tnat64d/internal/nexthop", "tnat64d/internal/regularfile", "tnat64d/internal/replacefile", "github.com/vishvananda/netlink", "golang.org/x/sys"},
	"plat/nat44":         {"github.com/google/nftables", "github.com/mdlayher/netlink", "golang.org/x/sys"},
	"shim":               {"tnat64d/siit", "tnat64d/pref64", "github.com/google/nftables", "github.com/vishvananda/netlink", "golang.org/x/net", "golang.org/x/sys"},
	"clat":               {"tnat64d/clat/plan", "tnat64d/siit", "tnat64d/internal/backoff", "tnat64d/internal/cause", "tnat64d/internal/regularfile", "tnat64d/internal/replacefile", "golang.org/x/sys", "golang.org/x/time/rate"},
	"clat/plan":          {"tnat64d/siit"},
	"clat/plan/plantest": {"tnat64d/clat/plan", "tnat64d/siit"},
	"clat/host": {
		"tnat64d/clat/plan", "tnat64d/siit", "tnat64d/internal/cause", "tnat64d/internal/dump", "tnat64d/internal/nexthop",
		"github.com/vishvananda/netlink", "golang.org/x/net", "golang.org/x/sys",
		"github.com/vishvananda/netns", // netlink's own API wants its handles
	},
	"plat/advertise": {"tnat64d/internal/dump", "github.com/mdlayher/ndp", "github.com/vishvananda/netlink", "golang.org/x/net", "golang.org/x/sys"},
	"plat/dns64":     {"tnat64d/siit", "tnat64d/internal/regularfile", "github.com/miekg/dns", "golang.org/x/sync", "golang.org/x/sys"},
	// Commands may import whatever they need, but not each other: what they
	// share is below internal.
	"cmd":                   nil,
	"internal/backoff":      {},
	"internal/bus":          {"github.com/godbus/dbus/v5", "tnat64d/internal/control"},
	"internal/fdstore":      {"golang.org/x/sys"},
	"internal/daemon":       {"tnat64d/internal/say", "github.com/coreos/go-systemd/v22", "golang.org/x/sys"},
	"internal/resume":       {"golang.org/x/sys"},
	"internal/control":      {"tnat64d/datapath/engine", "tnat64d/siit", "tnat64d/internal/say", "golang.org/x/sys"},
	"internal/metrics":      {"tnat64d/internal/say", "github.com/prometheus/client_golang", "golang.org/x/net", "golang.org/x/sys"},
	"internal/say":          {"golang.org/x/sys"},
	"internal/dump":         {"github.com/vishvananda/netlink"},
	"internal/needs":        {"golang.org/x/sys"},
	"internal/rps":          {"github.com/vishvananda/netlink", "golang.org/x/sys"},
	"internal/nexthop":      {"tnat64d/internal/dump", "github.com/vishvananda/netlink", "golang.org/x/sys"},
	"internal/cause":        {"github.com/cilium/ebpf", "github.com/vishvananda/netlink", "golang.org/x/sys"},
	"internal":              {"tnat64d/siit", "tnat64d/pref64", "tnat64d/internal/regularfile", "github.com/pelletier/go-toml/v2"},
	"e2e":                   {},
	"internal/lab":          nil,
	"packaging":             {},
	"packaging/test-kernel": {"tnat64d/packaging/apt", "golang.org/x/sys"},
	"packaging/test-vm":     {"tnat64d/internal/lab", "tnat64d/packaging/apt", "github.com/gopacket/gopacket"},
	"benchmarks":            nil,
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range list(t) {
		dir := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, self), "/")
		if dir == "" {
			dir = "."
		}
		key, allowed := layer(dir)
		layerOf := func(imp string) string {
			k, _ := layer(strings.TrimPrefix(imp, self+"/"))
			return k
		}
		if key == "" {
			t.Errorf("%s: no layer is written down for this package", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			switch {
			case !strings.Contains(strings.Split(imp, "/")[0], ".") && !strings.HasPrefix(imp, self):
				continue // standard library
			case key != "." && below(imp, self+"/"+key) && layerOf(imp) == key:
				continue // its own parts
			case allowed == nil:
				if strings.HasPrefix(imp, "tnat64d/cmd/") {
					t.Errorf("%s imports another command, %s", p.ImportPath, imp)
				}
			case !slices.ContainsFunc(allowed, func(a string) bool { return below(imp, a) }):
				t.Errorf("%s must not import %s", p.ImportPath, imp)
			}
		}
	}
}

// layer returns the longest key that covers dir.
func layer(dir string) (key string, allowed []string) {
	for k, a := range layers {
		if below(dir, k) && len(k) > len(key) {
			key, allowed = k, a
		}
	}
	return key, allowed
}

// below reports whether path is parent or inside of it.
func below(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Skipf("needs the go command: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
