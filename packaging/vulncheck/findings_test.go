package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sample = `{"config": {"protocol_version": "v1.0.0"}}
{"osv": {"id": "GO-1", "summary": "bad parser"}}
{"osv": {"id": "GO-2", "summary": "bad server"}}
{"osv": {"id": "GO-3", "summary": "never called"}}
{"finding": {"osv": "GO-1", "fixed_version": "v1.2.0", "trace": [{"module": "example.com/p", "version": "v1.1.0"}]}}
{"finding": {"osv": "GO-1", "fixed_version": "v1.2.0", "trace": [{"module": "example.com/p", "version": "v1.1.0", "package": "p", "function": "Parse"}, {"module": "tnat64d", "function": "main"}]}}
{"finding": {"osv": "GO-1", "fixed_version": "v1.2.0", "trace": [{"module": "example.com/p", "version": "v1.1.0", "package": "p", "function": "Read"}]}}
{"finding": {"osv": "GO-2", "fixed_version": "v1.99.1", "trace": [{"module": "stdlib", "version": "v1.99.0", "package": "net/http", "function": "Serve"}]}}
{"finding": {"osv": "GO-3", "trace": [{"module": "example.com/q", "version": "v1.0.0", "package": "q"}]}}
`

func TestFindings(t *testing.T) {
	all, err := read([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if modules, std := report(&b, all); modules != 1 || std != 1 {
		t.Errorf("%d in modules, %d in the standard library", modules, std)
	}
	want := `error: GO-1 in example.com/p v1.1.0: bad parser (fixed in v1.2.0)
warning: GO-2 in stdlib v1.99.0: bad server (fixed in v1.99.1)
vulnerable code that is called: 1 in modules, 1 in Go's standard library
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if _, err := read([]byte(sample + "{")); err == nil {
		t.Error("output that is cut is taken for complete")
	}
}
