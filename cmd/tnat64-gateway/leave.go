package main

import (
	"errors"
	"log/slog"

	"golang.org/x/sys/unix"

	"tnat64d/internal/fdstore"
	"tnat64d/plat"
)

// connections is the name, in systemd's file descriptor store, of what keeps tracked
// connections over a restart. The store closes it when the unit stops or fails.
const connections = "connections"

// inherit has the handover end, at its time, what the previous process has left in
// systemd's store, and returns the store; nil where no service manager has started
// this process.
func inherit(passed []fdstore.Descriptor, handover *plat.Handover, log *slog.Logger) *fdstore.Store {
	s, err := fdstore.Open()
	if err != nil {
		log.Debug("a restart may end connections", "reason", err)
	}
	if s == nil || len(passed) == 0 {
		return s
	}
	handover.Inherit(func() (err error) {
		for _, d := range passed {
			s.Adopt(d.Name)
			err = errors.Join(err, unix.Close(d.FD), s.Drop(d.Name))
		}
		return err
	})
	return s
}

// leave keeps the connections for the next process, if there is a store for them.
func (d *gateway) leave() {
	var keep func(fd int) error
	if d.store != nil {
		keep = func(fd int) error { return d.store.Keep(connections, fd) }
	}
	if err := d.handover.Close(keep); err != nil {
		d.log.Warn("connections that carry packets now may end", "reason", err)
	}
}
