package packaging

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDashboard holds the example dashboard to metrics that exist, with labels
// that they have.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("grafana/tnat64d.json")
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(text) {
		t.Fatal("the dashboard is no JSON")
	}
	golden, err := os.ReadFile("../cmd/tnat64d/testdata/metrics.golden")
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := os.ReadFile("../cmd/tnat64-gateway/metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`tnat64_[a-z0-9_]+`).FindAllString(string(text), -1)
	if len(used) < 10 {
		t.Errorf("only %d metrics are shown", len(used))
	}
	for _, name := range used {
		if strings.HasPrefix(name, "tnat64_gateway_") {
			if !strings.Contains(string(gateway), `desc("`+name+`"`) {
				t.Errorf("tnat64-gateway has no metric %s", name)
			}
			continue
		}
		if !strings.Contains(string(golden), "# HELP "+name+" ") && name != "tnat64_pref64_ignored_total" { // which is not there before something is ignored
			t.Errorf("there is no metric %s", name)
		}
	}
}
