package main

import (
	"context"

	"tnat64d/internal/lab"
)

// native is untranslated IPv6 to the synthesised address: the baseline, and
// what a per-socket shim gives once a connection is made.
type native struct{}

func (native) id() string         { return "native" }
func (native) title() string      { return "IPv6" }
func (native) packages() []string { return nil }
func (native) cannot(load) string { return "" }
func (native) about() string {
	return "untranslated IPv6: the load's own IPv6 sockets, nothing in the way"
}

func (native) version(context.Context) (string, error) { return "", nil }

func (native) start(_ context.Context, l *lab.Lab, _ setup) (*service, error) {
	return &service{target: lab.Synthesize(l.PREF64(), lab.ServerIPv4), stop: func() error { return nil }}, nil
}
