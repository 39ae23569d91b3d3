package main

import (
	"encoding/json"
	"regexp"
	"runtime/debug"
	"testing"
	"time"
)

func example() document {
	info := func(deps ...*debug.Module) *debug.BuildInfo {
		return &debug.BuildInfo{GoVersion: "go1.26.0", Deps: deps, Settings: []debug.BuildSetting{{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "arm64"}}}
	}
	net := &debug.Module{Path: "golang.org/x/net", Version: "v0.62.0"}
	fork := &debug.Module{Path: "example.org/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/new", Version: "v1.0.1"}}
	return describe("tnat64d", "v1.2.3", time.Unix(1700000000, 0).UTC(), []program{
		{"tnat64d", "aa", info(net, fork)},
		{"tnat64ctl", "bb", info(net)},
	})
}

func TestDescribe(t *testing.T) {
	d := example()
	names := map[string]int{}
	ids := map[string]bool{d.SPDXID: true}
	for _, p := range d.Packages {
		names[p.Name+" "+p.VersionInfo]++
		ids[p.SPDXID] = true
		if !regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`).MatchString(p.SPDXID) {
			t.Errorf("%q is no identifier", p.SPDXID)
		}
		if p.DownloadLocation == "" || p.License == "" || p.Declared == "" || p.Copyright == "" {
			t.Errorf("%s lacks what SPDX wants: %+v", p.Name, p)
		}
	}
	for _, want := range []string{"tnat64ctl v1.2.3", "golang.org/x/net v0.62.0", "example.org/new v1.0.1", "std 1.26.0"} {
		if names[want] != 1 {
			t.Errorf("%s occurs %d times in %v", want, names[want], names)
		}
	}
	if names["example.org/old v1.0.0"] != 0 {
		t.Error("a module that was replaced is listed")
	}
	linked := 0
	for _, r := range d.Relationships {
		if !ids[r.From] || !ids[r.To] {
			t.Errorf("%+v is about nothing", r)
		}
		if r.How == "STATIC_LINK" {
			linked++
		}
	}
	if linked != 5 {
		t.Errorf("%d modules are linked, want 3 and 2", linked)
	}
}

func TestSameProgramsSameDocument(t *testing.T) {
	a, err := json.Marshal(example())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(example())
	if string(a) != string(b) {
		t.Errorf("%s\n%s", a, b)
	}
}
