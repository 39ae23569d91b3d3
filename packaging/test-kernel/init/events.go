package main

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"tnat64d/packaging/test-kernel/guest"
)

// events is the serial port to the host.
type events struct{ port *os.File }

// openEvents opens the port as a plain line of bytes: no echo, no line ends
// changed.
func openEvents(path string) (*events, error) {
	port, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	term, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	term.Iflag, term.Oflag, term.Lflag = 0, 0, 0
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, term); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &events{port}, nil
}

// send writes one line. Without the port nobody is there to hear of an error.
func (e *events) send(ev guest.Event) {
	line, err := json.Marshal(ev)
	if err != nil {
		line = fmt.Appendf(nil, `{"Failed":%q}`, err)
	}
	e.port.Write(append(line, '\n'))
}

// close waits until the last byte is on its way, as the power goes next.
func (e *events) close() {
	unix.IoctlSetInt(int(e.port.Fd()), unix.TCSBRK, 1)
	e.port.Close()
}
