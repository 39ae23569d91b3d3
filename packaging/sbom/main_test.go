package main

import (
	"bytes"
	"regexp"
	"runtime/debug"
	"testing"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

func example() *spdx.Document {
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
	if err := spdxlib.ValidateDocument(d); err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, p := range d.Packages {
		names[p.PackageName+" "+p.PackageVersion]++
		if !regexp.MustCompile(`^[A-Za-z0-9.-]+$`).MatchString(string(p.PackageSPDXIdentifier)) {
			t.Errorf("%q is no identifier", p.PackageSPDXIdentifier)
		}
		if p.PackageDownloadLocation == "" || p.PackageLicenseConcluded == "" || p.PackageLicenseDeclared == "" || p.PackageCopyrightText == "" {
			t.Errorf("%s lacks what SPDX requires: %+v", p.PackageName, p)
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
		if r.Relationship == common.TypeRelationshipStaticLink {
			linked++
		}
	}
	if linked != 5 {
		t.Errorf("%d modules are linked, want 3 and 2", linked)
	}
}

// written returns a document as it is in a release.
func written(t *testing.T, d *spdx.Document) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Write(d, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestSupplier: a supplier is one of the minimum elements of an SBOM.
func TestSupplier(t *testing.T) {
	for _, p := range example().Packages {
		want := noAssertion
		if p.PackageVersion == "v1.2.3" {
			want = maintainers
		}
		if p.PackageSupplier == nil || p.PackageSupplier.Supplier != want {
			t.Errorf("%s: supplier %v, want %s", p.PackageName, p.PackageSupplier, want)
		}
	}
}

func TestPURL(t *testing.T) {
	got := purl("github.com/BurntSushi/toml", "v2.0.0+incompatible")
	if want := "pkg:golang/github.com/burntsushi/toml@v2.0.0%2Bincompatible"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSameProgramsSameDocument(t *testing.T) {
	if a, b := written(t, example()), written(t, example()); a != b {
		t.Errorf("%s\n%s", a, b)
	}
}

func TestWrittenDocumentIsReadBack(t *testing.T) {
	text := written(t, example())
	d, err := json.Read(bytes.NewBufferString(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(d); err != nil {
		t.Error(err)
	}
	if again := written(t, d); again != text {
		t.Errorf("read back as\n%s\nwant\n%s", again, text)
	}
}
