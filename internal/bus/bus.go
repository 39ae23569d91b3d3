package bus

import (
	"cmp"
	"context"
	"errors"
	"os"
	"time"
)

const (
	usualAddress = "unix:path=/run/dbus/system_bus_socket"

	// restPause is for how long something that has not answered is not asked
	// again.
	restPause = 30 * time.Second

	// A bus that goes away is most likely restarted, and one that is absent or
	// slow at boot is most likely starting: it is tried again after firstPause,
	// twice that and so on, but not forever, as a host without a bus is to sleep
	// well. 12 attempts are about four minutes. A question tries again later.
	firstPause = 100 * time.Millisecond
	lastPause  = time.Minute
	attempts   = 12
)

var (
	// ErrNoBus says that there is no bus, or that it does not let us in.
	ErrNoBus = errors.New("no D-Bus")
	// ErrNotRunning says that the service is not running.
	ErrNotRunning = errors.New("not running")
	// ErrSilent says that the bus or the service is there and does not answer.
	ErrSilent = errors.New("does not answer")
	// ErrNotManaged says that the service has nothing to do with the link.
	ErrNotManaged = errors.New("does not manage the link")
	// ErrClosed is what a closed Bus answers.
	ErrClosed = errors.New("closed")
)

// Options of a Bus; the zero value is the system bus.
type Options struct {
	// Address in D-Bus notation; empty: the environment's
	// DBUS_SYSTEM_BUS_ADDRESS, or the usual place.
	Address string
	// Timeout of one question to one service, and of connecting; 0: a second.
	Timeout time.Duration
}

// Bus is the system bus. Its methods may be called concurrently.
type Bus struct{ connection connection }

// New returns a Bus that is not connected: the first question connects it.
func New(o Options) *Bus {
	b := &Bus{connection{
		address: cmp.Or(o.Address, os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), usualAddress),
		timeout: cmp.Or(o.Timeout, time.Second),
		signals: newSignals(),
	}}
	b.connection.ctx, b.connection.close = context.WithCancel(context.Background())
	return b
}

// Close ends the connection. Its channels stay open and silent.
func (b *Bus) Close() { b.connection.close() }

// DNSChanged yields a value when the DNS servers of some link may have changed:
// LinkDNS tells which. Changes that nobody has picked up yet are one value. It
// is silent until a question has connected the bus.
func (b *Bus) DNSChanged() <-chan struct{} { return b.connection.signals.dns }

// ManagerChanged yields a value when NetworkManager has come or gone, even where
// it was killed. Changes that nobody has picked up yet are one value. It is silent
// until a question has connected the bus.
func (b *Bus) ManagerChanged() <-chan struct{} { return b.connection.signals.manager }

// Sleep yields true before the machine sleeps and false after it has woken up.
// Only the latest value is kept for a reader that is slow; as sleep is not
// delayed for us, true may come late or not at all. It is silent until a
// question has connected the bus.
func (b *Bus) Sleep() <-chan bool { return b.connection.signals.sleep }
