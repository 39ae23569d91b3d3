package steer

import (
	"errors"
	"fmt"
	"io"
	"os"

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

func (e *Error) Error() string { return "steer: " + e.Reason() }

// Reason is Error without the name of the package.
func (e *Error) Reason() string {
	switch {
	case e.refused():
		return e.Op + ": the kernel's BPF verifier refuses them"
	case errors.Is(e.Err, os.ErrPermission):
		return e.Op + ": not permitted, CAP_BPF and CAP_NET_ADMIN are needed"
	}
	return fmt.Sprintf("%s: %v", e.Op, e.Err)
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
	var i installing
	return errors.As(e.Err, &i) && cause.Of(i.error) == cause.Refused
}

// installing is the error of loading or attaching BPF programs.
type installing struct{ error }

func (i installing) Unwrap() error { return i.error }

// refused says whether the verifier rejected a program. It leaves a log then;
// without one the kernel stopped earlier, for example at missing rights.
func (e *Error) refused() bool {
	ve := new(ebpf.VerifierError)
	return errors.As(e.Err, &ve) && len(ve.Log) > 0
}
