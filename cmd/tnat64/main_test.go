package main

import (
	"net/netip"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tnat64d/internal/config"
	"tnat64d/shim"
)

func TestMain(m *testing.M) {
	shim.Stage()
	testscript.Main(m, map[string]func(){
		"tnat64": func() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the scripts in testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

func TestParsePREF64(t *testing.T) {
	for text, ok := range map[string]bool{
		"64:ff9b::/96": true, "2001:db8::/32": true, "2001:db8:1:2::/64": true,
		"64:ff9b::": false, "64:ff9b::/95": false, "192.0.2.0/24": false, "": false,
	} {
		if _, err := parsePREF64(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseIPv4(t *testing.T) {
	for text, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "", "host": "", "": ""} {
		a, err := parseIPv4(text)
		if (err == nil) != (want != "") || err == nil && a.String() != want {
			t.Errorf("%q: %s, %v", text, a, err)
		}
	}
}

// The prefix of the command line precedes all that the file says.
func TestPrefixOfTheCommandLinePrecedes(t *testing.T) {
	p := policyOf(config.Shim{Routes: []config.ShimRoute{{Network: netip.MustParsePrefix("198.51.100.0/24")}}})
	o := options{pref64: netip.MustParsePrefix("64:ff9b::/96")}
	from, refresh, err := o.choosePrefix(t.Context(), &p, func(string) {})
	if err != nil || refresh || from != "64:ff9b::/96, by -pref64" || len(p.Routes) != 1 || p.Routes[0].Network != shim.Everything {
		t.Errorf("%q, %v, %v, %v", from, refresh, err, p.Routes)
	}
}
