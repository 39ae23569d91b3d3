package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsNames checks that metrics which are not the gateway's alone have the
// names of tnat64d, so that one query and one dashboard serve both.
func TestMetricsNames(t *testing.T) {
	clat, err := os.ReadFile("../tnat64d/testdata/metrics.golden")
	if err != nil {
		t.Fatal(err)
	}
	described := make(chan *prometheus.Desc, 100)
	collector{}.Describe(described)
	close(described)
	for d := range described {
		name := regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]
		if !strings.HasPrefix(name, "tnat64_gateway_") && !strings.Contains(string(clat), "# TYPE "+name+" ") {
			t.Errorf("%s is not a metric of tnat64d", name)
		}
	}
}
