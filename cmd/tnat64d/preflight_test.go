package main

import (
	"strings"
	"testing"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/internal/config"
)

// TestCheckHost has an interface with the name of the CLAT's: that of a daemon that
// runs is not one to remove, as the hint for another one says.
func TestCheckHost(t *testing.T) {
	never := config.Default()
	never.CLAT.Enable = config.Never
	for _, c := range []struct {
		name      string
		conf      config.Config
		link      plan.Link
		inherited []clat.Inherited
		want      string // in the error; empty: none
	}{
		{"no interface", config.Default(), plan.Link{Index: 7, Name: "eth0"}, nil, ""},
		{"of another program", config.Default(), plan.Link{Index: 7, Name: "clat0"}, nil, "belongs to another program"},
		{"of another daemon", config.Default(), plan.Link{Index: 7, Name: "clat0", Alias: plan.AliasPrefix + "wlan0"}, nil, "another tnat64d is running"},
		{"of the process before", config.Default(), plan.Link{Index: 7, Name: "clat0", Alias: plan.AliasPrefix + "wlan0"}, []clat.Inherited{{TUN: "clat0", Index: 7}}, ""},
		{"no CLAT is wanted", never, plan.Link{Index: 7, Name: "clat0"}, nil, ""},
	} {
		err := checkHost(c.conf, plan.Observed{Links: []plan.Link{c.link}}, c.inherited)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
