package daemon

import (
	"bytes"
	"flag"
	"log/slog"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	p := Program{Name: "router", Usage: "usage: router\n", Version: "1.2", Config: "/etc/router.toml"}
	for _, c := range []struct {
		args           string
		want           Options
		status         int
		ended          bool
		stdout, stderr string // what is in them
	}{
		{args: "", want: Options{Config: "/etc/router.toml"}},
		{args: "-config x -check -log-level debug", want: Options{"x", true, slog.LevelDebug}},
		{args: "-h", ended: true, stdout: "usage: router\n"},
		{args: "-version", ended: true, stdout: "router 1.2 go"},
		{args: "-log-level loud", status: 2, ended: true, stderr: "allowed: debug, info, warn, error\nusage: router\n"},
		{args: "-frobnicate", status: 2, ended: true, stderr: "router: flag provided but not defined"},
		{args: "eth0", status: 2, ended: true, stderr: `router: unexpected argument "eth0"`},
	} {
		var out, err bytes.Buffer
		o, status, ended := p.Parse(strings.Fields(c.args), &out, &err, nil)
		if !ended && o != c.want || status != c.status || ended != c.ended {
			t.Errorf("%q: %+v, status %d, ended %t", c.args, o, status, ended)
		}
		if !strings.Contains(out.String(), c.stdout) || !strings.Contains(err.String(), c.stderr) {
			t.Errorf("%q: says %q and %q", c.args, &out, &err)
		}
	}
	var more bool
	if _, _, ended := p.Parse([]string{"-more"}, &bytes.Buffer{}, &bytes.Buffer{}, func(fs *flag.FlagSet) { fs.BoolVar(&more, "more", false, "") }); ended || !more {
		t.Error("a flag of one daemon is not read")
	}
}
