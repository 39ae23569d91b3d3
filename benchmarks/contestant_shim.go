package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"tnat64d/internal/lab"
)

// shim is Debian's tnat64: a library that is loaded into the program
// (LD_PRELOAD) and replaces connect(2) by one to the synthesised address.
type shim struct{}

func (shim) id() string         { return "shim" }
func (shim) title() string      { return "TNAT64 shim" }
func (shim) packages() []string { return []string{"tnat64"} }
func (shim) about() string {
	return "TNAT64's LD_PRELOAD library, as `tnat64 COMMAND`; the laptop has no IPv4. TCP only"
}

func (shim) version(ctx context.Context) (string, error) { return packageVersion(ctx, "tnat64") }

func (shim) cannot(l load) string {
	if !l.tcp() {
		return "TCP only"
	}
	return ""
}

func (shim) start(_ context.Context, l *lab.Lab, _ setup) (*service, error) {
	if l.PREF64().Bits() != 96 {
		return nil, fmt.Errorf("tnat64 knows prefixes of length 96 only, not %s", l.PREF64())
	}
	conf := filepath.Join(l.Dir, "tnat64.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "nat64_prefix = %s\n", l.PREF64().Addr()), 0o644); err != nil {
		return nil, err
	}
	return &service{
		target:  lab.ServerIPv4,
		wrapper: []string{"tnat64"},
		env:     []string{"TNAT64_CONF_FILE=" + conf},
		stop:    func() error { return os.Remove(conf) },
	}, nil
}
