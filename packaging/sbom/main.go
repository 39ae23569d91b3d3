// Command sbom lists what is in Go programs: it reads the build information that
// the go command puts into every binary (`go version -m`) and writes it as an
// SPDX 2.3 document in JSON. The same programs give the same document.
//
//	sbom -name tnat64d -version 1.2.3 -time 1700000000 PROGRAM...
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run() error {
	name := flag.String("name", "", "`name` of the product")
	version := flag.String("version", "", "`version` of the product")
	seconds := flag.Int64("time", 0, "when the document was made, in `seconds` since 1970")
	flag.Parse()
	if *name == "" || *version == "" || flag.NArg() == 0 {
		return errors.New("want -name NAME -version VERSION -time SECONDS PROGRAM and perhaps more programs")
	}
	var programs []program
	for _, path := range flag.Args() {
		p, err := read(path)
		if err != nil {
			return err
		}
		programs = append(programs, p)
	}
	d := describe(*name, *version, time.Unix(*seconds, 0).UTC(), programs)
	if err := spdxlib.ValidateDocument(d); err != nil {
		return err
	}
	return json.Write(d, os.Stdout, json.Indent("  "), json.EscapeHTML(false))
}

// program is a binary and its build information.
type program struct {
	name   string
	sha256 string
	info   *debug.BuildInfo
}

func read(path string) (program, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return program{}, err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return program{}, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(data)
	return program{filepath.Base(path), hex.EncodeToString(sum[:]), info}, nil
}

// license is the product's. Its BPF programs are also under the GPL, which the
// kernel requires of programs that call its helpers.
const license = "Apache-2.0 AND (MIT OR GPL-2.0-only)"

// maintainers supply the product and make the document.
const maintainers = "tnat64d maintainers"

// describe returns the document: the product contains the programs, and each of
// these the modules that it is built from, and Go's standard library.
func describe(name, version string, created time.Time, programs []program) *spdx.Document {
	d := document{&spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: name + "-" + version,
		CreationInfo: &spdx.CreationInfo{
			Created:  created.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Organization", Creator: maintainers}, {CreatorType: "Tool", Creator: "tnat64d packaging/sbom"}},
		},
	}}
	hash := sha256.New()
	const product = "product"
	ours := &common.Supplier{SupplierType: "Organization", Supplier: maintainers}
	d.add(&spdx.Package{PackageSPDXIdentifier: product, PackageName: name, PackageVersion: version, PackageSupplier: ours}, license)
	d.relate(d.SPDXIdentifier, common.TypeRelationshipDescribe, product)
	for _, p := range programs {
		fmt.Fprintln(hash, p.name, p.sha256)
		binary := id("program", p.name)
		d.add(&spdx.Package{
			PackageSPDXIdentifier: binary, PackageName: p.name, PackageVersion: version, PackageSupplier: ours,
			PackageChecksums:      []common.Checksum{{Algorithm: common.SHA256, Value: p.sha256}},
			PrimaryPackagePurpose: "APPLICATION",
			PackageComment:        p.setting("GOOS") + "/" + p.setting("GOARCH"),
		}, license)
		d.relate(product, common.TypeRelationshipContains, binary)
		d.module(binary, "std", strings.TrimPrefix(p.info.GoVersion, "go"), "BSD-3-Clause")
		for _, m := range p.info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			d.module(binary, m.Path, m.Version, noAssertion)
		}
	}
	// Unique by its content (SPDX 2.3 clause 6.5), and no place to look for it.
	d.DocumentNamespace = fmt.Sprintf("urn:tnat64d:sbom:%s:%x", version, hash.Sum(nil)[:16])
	return d.Document
}

func (p program) setting(key string) string {
	for _, s := range p.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// noAssertion stands where SPDX requires a value and the build information has
// none.
const noAssertion = "NOASSERTION"

// document is a document that grows.
type document struct{ *spdx.Document }

// add appends a package and completes the fields that SPDX 2.3 requires, and its
// supplier, which is one of the minimum elements of an SBOM (NTIA, 2021).
func (d document) add(p *spdx.Package, terms string) {
	if p.PackageSupplier == nil {
		p.PackageSupplier = &common.Supplier{Supplier: noAssertion}
	}
	p.PackageDownloadLocation, p.PackageCopyrightText = noAssertion, noAssertion
	p.PackageLicenseConcluded, p.PackageLicenseDeclared = terms, terms
	d.Packages = append(d.Packages, p)
}

// module adds a Go module unless it is listed already, and the relationship that
// the program is linked with it.
func (d document) module(program common.ElementID, path, version, terms string) {
	module := id("module", path+"-"+version)
	if !slices.ContainsFunc(d.Packages, func(p *spdx.Package) bool { return p.PackageSPDXIdentifier == module }) {
		d.add(&spdx.Package{
			PackageSPDXIdentifier: module, PackageName: path, PackageVersion: version,
			PackageExternalReferences: []*spdx.PackageExternalReference{{
				Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL,
				Locator: purl(path, version),
			}},
			PrimaryPackagePurpose: "LIBRARY",
		}, terms)
	}
	d.relate(program, common.TypeRelationshipStaticLink, module)
}

// purl returns the package URL of a Go module: by the rules for this type the path
// has lower-case letters only, and by those for all types a "+" is escaped.
func purl(path, version string) string {
	return "pkg:golang/" + strings.ToLower(path) + "@" + strings.ReplaceAll(version, "+", "%2B")
}

func (d document) relate(from common.ElementID, how string, to common.ElementID) {
	d.Relationships = append(d.Relationships, &spdx.Relationship{
		RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: to}, Relationship: how,
	})
}

// id returns an identifier, which has letters, digits, dots and hyphens only
// (SPDX 2.3 clause 7.2).
func id(kind, name string) common.ElementID {
	return common.ElementID(kind + "-" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, name))
}
