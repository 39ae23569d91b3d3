package steernft

import "fmt"

// Error says which step failed and why. The errno of the kernel is unwrapped.
type Error struct {
	Op  string // what was tried: "add chain uplink"
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("nftables: %s: %v", e.Op, e.Err) }

func (e *Error) Unwrap() error { return e.Err }
