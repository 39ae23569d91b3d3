// Command sbom says what is in a Go program: it reads the build information
// that the go command puts into every binary (`go version -m`) and writes it as
// an SPDX 2.3 document in JSON. Nothing is fetched, and the same programs give
// the same document.
//
//	sbom -name tnat64d -version 1.2.3 -time 1700000000 PROGRAM...
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run() error {
	name := flag.String("name", "", "of the product")
	version := flag.String("version", "", "of the product")
	seconds := flag.Int64("time", 0, "of the document, in seconds since 1970")
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
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(describe(*name, *version, time.Unix(*seconds, 0).UTC(), programs))
}

// program is a binary and what it says of itself.
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

// license is the product's: its BPF programs may be had by other terms as well,
// as the kernel wants them to.
const license = "Apache-2.0 AND (MIT OR GPL-2.0-only)"

// describe makes the document: the product contains the programs, and each of
// these the modules that it is built from, and Go's standard library.
func describe(name, version string, created time.Time, programs []program) document {
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT",
		Name: name + "-" + version,
		CreationInfo: creationInfo{
			Created: created.Format(time.RFC3339), Creators: []string{"Organization: tnat64d maintainers", "Tool: tnat64d packaging/sbom"},
		},
	}
	hash := sha256.New()
	product := pkg{SPDXID: "SPDXRef-product", Name: name, VersionInfo: version, License: license}
	d.Packages = append(d.Packages, product.complete())
	d.relate(d.SPDXID, "DESCRIBES", product.SPDXID)
	for _, p := range programs {
		fmt.Fprintln(hash, p.name, p.sha256)
		binary := pkg{
			SPDXID: id("program", p.name), Name: p.name, VersionInfo: version, License: license,
			Checksums: []checksum{{"SHA256", p.sha256}}, Purpose: "APPLICATION",
			Comment: p.setting("GOOS") + "/" + p.setting("GOARCH"),
		}
		d.Packages = append(d.Packages, binary.complete())
		d.relate(product.SPDXID, "CONTAINS", binary.SPDXID)
		d.module(binary.SPDXID, "std", strings.TrimPrefix(p.info.GoVersion, "go"), "BSD-3-Clause")
		for _, m := range p.info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			d.module(binary.SPDXID, m.Path, m.Version, "")
		}
	}
	// Unique by its content (SPDX 2.3 clause 6.5), and no place to look for it.
	d.Namespace = fmt.Sprintf("urn:tnat64d:sbom:%s:%x", version, hash.Sum(nil)[:16])
	return d
}

func (p program) setting(key string) string {
	for _, s := range p.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// module adds a Go module, once, and that the program is built from it.
func (d *document) module(program, path, version, terms string) {
	m := pkg{SPDXID: id("module", path+"-"+version), Name: path, VersionInfo: version, License: terms, Purpose: "LIBRARY"}
	locator := fmt.Sprintf("pkg:golang/%s@%s", path, version)
	m.References = []reference{{"PACKAGE-MANAGER", "purl", locator}}
	if !slices.ContainsFunc(d.Packages, func(p pkg) bool { return p.SPDXID == m.SPDXID }) {
		d.Packages = append(d.Packages, m.complete())
	}
	d.relate(program, "STATIC_LINK", m.SPDXID)
}

func (d *document) relate(from, how, to string) {
	d.Relationships = append(d.Relationships, relationship{from, how, to})
}

// id makes an identifier, which may have letters, digits, dots and hyphens.
func id(kind, name string) string {
	return "SPDXRef-" + kind + "-" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, name)
}
