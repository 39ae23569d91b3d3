// Package say is how the commands tell people that something went wrong: one
// sentence without capital and full stop, the program's name in front, and
// where there is something to do about it a line that begins with "hint:".
package say

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

// Exit statuses of all commands.
const (
	StatusOK    = 0
	StatusError = 1
	StatusUsage = 2 // wrong command line or configuration; nothing has been touched
)

// Failure is an error as people are told it. Of What and Err one may be absent.
type Failure struct {
	What string // what could not be done: "cannot serve metrics"
	Err  error  // why
	Hint string // what to do about it; empty if nobody knows

	usage bool
}

func (f *Failure) Error() string {
	switch {
	case f.Err == nil:
		return f.What
	case f.What == "":
		return f.Err.Error()
	}
	return fmt.Sprintf("%s: %v", f.What, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// Hint adds what to do about err.
func Hint(err error, format string, args ...any) error {
	return &Failure{Err: err, Hint: fmt.Sprintf(format, args...)}
}

// Usage marks err as a mistake in the command line or the configuration, which
// makes the exit status [StatusUsage]. An error that means that a file could not
// be read for lack of descriptors or memory is no such mistake; it is returned
// as it is.
func Usage(err error) error {
	for _, lack := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, lack) {
			return err
		}
	}
	return &Failure{Err: err, usage: true}
}

// Fail prints err for a person, with all hints in it, and returns the exit
// status that belongs to it. An error that has a method Detail, such as
// *config.Error, is printed by it as it is, so that editors find file and line
// at the beginning.
func Fail(w io.Writer, program string, err error) int {
	if d, ok := errors.AsType[interface {
		error
		Detail() string
	}](err); ok {
		io.WriteString(w, d.Detail())
	} else {
		fmt.Fprintf(w, "%s: %v\n", program, err)
	}
	status := StatusError
	var hints []string
	for _, f := range failures(err) {
		if f.Hint != "" && !slices.Contains(hints, f.Hint) {
			hints = append(hints, f.Hint)
			fmt.Fprintf(w, "hint: %s\n", f.Hint)
		}
		if f.usage {
			status = StatusUsage
		}
	}
	return status
}

// failures returns every Failure in err, from outside in.
func failures(err error) []*Failure {
	var found []*Failure
	if f, ok := err.(*Failure); ok {
		found = append(found, f)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		found = append(found, failures(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, e := range e.Unwrap() {
			found = append(found, failures(e)...)
		}
	}
	return found
}
