package steer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cilium/ebpf"

	"tnat64d/internal/cause"
)

// Error says what could not be done and why, in one sentence. Formatted with
// %+v it ends with everything the kernel said, such as the verifier's log.
//
// errors.Is(err, os.ErrPermission) means missing rights and nothing else: the
// errno of a program that the verifier refused, often EACCES, is not unwrapped.
type Error struct {
	Op  string // what was tried: "load the BPF programs"
	Err error
}

func (e *Error) Error() string {
	switch {
	case e.refused():
		return fmt.Sprintf("steer: %s: the kernel's BPF verifier refuses them", e.Op)
	case errors.Is(e.Err, os.ErrPermission):
		return fmt.Sprintf("steer: %s: not permitted, CAP_BPF and CAP_NET_ADMIN are needed", e.Op)
	}
	return fmt.Sprintf("steer: %s: %v", e.Op, e.Err)
}

// Format prints Error, and for %+v the details.
func (e *Error) Format(f fmt.State, verb rune) {
	io.WriteString(f, e.Error())
	if verb != 'v' || !f.Flag('+') {
		return
	}
	switch ve := new(ebpf.VerifierError); {
	case errors.As(e.Err, &ve):
		fmt.Fprintf(f, ": %+v", ve)
	case errors.Is(e.Err, os.ErrPermission):
		fmt.Fprintf(f, ": %v", e.Err) // which Error left out
	}
}

func (e *Error) Unwrap() error {
	if e.refused() {
		return nil
	}
	return e.Err
}

// Refused reports whether BPF as such is not to be had: the kernel loads or
// attaches none of our programs, for another reason than that it is short of
// something at the moment or that the interface has gone.
func (e *Error) Refused() bool {
	if !strings.HasPrefix(e.Op, "load ") && !strings.HasPrefix(e.Op, "attach ") {
		return false
	}
	return cause.Of(e.Err) == cause.Refused
}

// refused says whether the verifier rejected a program. It leaves a log then;
// without one the kernel stopped earlier, for example at missing rights.
func (e *Error) refused() bool {
	ve := new(ebpf.VerifierError)
	return errors.As(e.Err, &ve) && len(ve.Log) > 0
}
