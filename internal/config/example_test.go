package config

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// examplePath is the reference of all keys that packages install.
const examplePath = "../../packaging/tnat64d.toml.example"

// setting is a line of the example that is a setting switched off.
var setting = regexp.MustCompile(`(?m)^#([a-z\[].*)$`)

func TestExampleAsItIs(t *testing.T) {
	c, warnings, err := Load(examplePath)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, warnings)
	}
	if d := cmp.Diff(Default(), c, cmpNetip); d != "" {
		t.Errorf("the example must change nothing: (-default +example)\n%s", d)
	}
}

func TestExampleSwitchedOn(t *testing.T) {
	data, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	data = setting.ReplaceAll(data, []byte("$1"))
	c, warnings, err := Parse("example", data)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, warnings)
	}

	hasEveryKey(t, data, schema(new(reading)))

	// What the comments do not call an example is the default.
	want := Default()
	want.CLAT.Uplinks, want.CLAT.PREF64, want.CLAT.IPv6, want.CLAT.MTU, want.CLAT.IPv4Fixed = c.CLAT.Uplinks, c.CLAT.PREF64, c.CLAT.IPv6, 1480, true
	want.CLAT.Routes = c.CLAT.Routes
	want.Discovery.DNSServers, want.Discovery.PLATProbe = c.Discovery.DNSServers, c.Discovery.PLATProbe
	want.Translation.EAM = c.Translation.EAM
	want.Control.Metrics = c.Control.Metrics
	if d := cmp.Diff(want, c, cmpNetip); d != "" {
		t.Errorf("the example shows other defaults: (-default +example)\n%s", d)
	}
}

// hasEveryKey fails the test unless the file has every key of a schema, and no
// other.
func hasEveryKey(t *testing.T, data []byte, schema []key) {
	t.Helper()
	root, err := parseTree(data)
	if err != nil {
		t.Fatal(err)
	}
	has, known := map[string]bool{}, map[string]bool{}
	var walk func(path string, n *node)
	walk = func(path string, n *node) {
		for _, f := range n.fields {
			has[path+f.name] = true
			walk(path+f.name+".", f.node)
			for _, item := range f.items {
				walk(path+f.name+".", item)
			}
		}
	}
	walk("", root)
	var name func(path string, keys []key)
	name = func(path string, keys []key) {
		for _, k := range keys {
			known[path+k.name] = true
			name(path+k.name+".", k.within)
		}
	}
	name("", schema)
	if d := cmp.Diff(slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(has))); d != "" {
		t.Errorf("(-keys there are +keys of the example)\n%s", d)
	}
}
