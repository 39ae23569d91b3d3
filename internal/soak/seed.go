// Package soak gives random tests their seeds: the same in every run, so that
// a failure can be repeated, and others where TNAT64_SEED is set, as
// `make soak` does.
package soak

import (
	"os"
	"strconv"
	"testing"
)

// Seed returns TNAT64_SEED, or 1 where that is not set.
func Seed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv("TNAT64_SEED")
	if text == "" {
		return 1
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("TNAT64_SEED: %v", err)
	}
	return seed
}
