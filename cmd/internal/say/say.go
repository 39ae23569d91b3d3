// Package say is how the commands tell people that something went wrong: one
// sentence without capital and full stop, the program's name in front, and
// where there is something to do about it a line that begins with "hint:".
package say

import (
	"errors"
	"fmt"
	"io"
)

// Exit statuses of all commands.
const (
	StatusOK    = 0
	StatusError = 1
	StatusUsage = 2 // wrong command line or configuration; nothing has been touched
)

// noted is an error with what the commands add to it.
type noted struct {
	error
	hint  string
	usage bool
}

func (n *noted) Unwrap() error { return n.error }

// Hint adds what to do about err.
func Hint(err error, format string, args ...any) error {
	return &noted{error: err, hint: fmt.Sprintf(format, args...)}
}

// Usage marks err as a mistake of whoever wrote the command line or the
// configuration.
func Usage(err error) error { return &noted{error: err, usage: true} }

// Fail prints err for a person and returns the exit status that belongs to it.
// An error that has a method Detail, such as *config.Error, is printed by it
// as it is, so that editors find file and line at the beginning.
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
	for e := err; e != nil; e = errors.Unwrap(e) {
		n, ok := e.(*noted)
		if !ok {
			continue
		}
		if n.hint != "" {
			fmt.Fprintf(w, "hint: %s\n", n.hint)
		}
		if n.usage {
			status = StatusUsage
		}
	}
	return status
}
