package main

import (
	"log/slog"
	"sync"

	"tnat64d/internal/fdstore"
)

// store keeps descriptors in systemd's store for the next process. An error means
// that the next process has to start afresh, and no more.
type store struct {
	*fdstore.Store
	log *slog.Logger

	mu     sync.Mutex
	failed bool // something is missing in the store
}

// openStore returns nil where no service manager has started this process.
func openStore(log *slog.Logger) *store {
	s, err := fdstore.Open()
	if err != nil {
		log.Debug("a restart interrupts connections", "reason", err)
	}
	if s == nil {
		return nil
	}
	return &store{Store: s, log: log}
}

// Keep implements steer.Store.
func (s *store) Keep(name string, fd int) { s.note(s.Store.Keep(name, fd)) }

// Drop implements steer.Store.
func (s *store) Drop(name string) { s.note(s.Store.Drop(name)) }

func (s *store) note(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failed {
		s.failed = true
		s.log.Debug("the next restart interrupts connections", "reason", err)
	}
}

// complete reports whether the store has what it was given, if systemd says that it
// has so many descriptors.
func (s *store) complete(stored int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.failed && stored >= s.Kept()
}
