package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	busName    = "org.freedesktop.DBus"
	properties = "org.freedesktop.DBus.Properties"

	resolvedName = "org.freedesktop.resolve1"
	managerName  = "org.freedesktop.NetworkManager"
	networkdName = "org.freedesktop.network1"
	logindName   = "org.freedesktop.login1"
	systemdName  = "org.freedesktop.systemd1"

	resolvedPath = "/org/freedesktop/resolve1"
	managerPath  = "/org/freedesktop/NetworkManager"
	networkdPath = "/org/freedesktop/network1"
	logindPath   = "/org/freedesktop/login1"
	systemdPath  = "/org/freedesktop/systemd1"
)

// programs are what people call the services.
var programs = map[string]string{
	resolvedName: "systemd-resolved",
	managerName:  "NetworkManager",
	networkdName: "systemd-networkd",
	logindName:   "systemd-logind",
	systemdName:  "systemd",
}

// subscriptions are the signals that we want. They are so narrow because each
// one wakes us up. The properties of resolved's links do not tell of changes;
// those of its manager, which are about all links, do.
var subscriptions = []string{
	"type='signal',sender='" + resolvedName + "',path='" + resolvedPath + "',interface='" + properties + "',member='PropertiesChanged',arg0='" + resolvedName + ".Manager'",
	"type='signal',sender='" + managerName + "',path_namespace='" + managerPath + "',interface='" + properties + "',member='PropertiesChanged',arg0='" + managerName + ".IP6Config'",
	"type='signal',sender='" + managerName + "',path_namespace='" + managerPath + "',interface='" + properties + "',member='PropertiesChanged',arg0='" + managerName + ".Device'",
	"type='signal',sender='" + logindName + "',path='" + logindPath + "',interface='" + logindName + ".Manager',member='PrepareForSleep'",
}

// session is one connection to the bus.
type session struct {
	bus  *connection
	conn *dbus.Conn

	mu     sync.Mutex
	owners map[string]string // of the names in programs: a unique name; empty: nobody
}

// open connects, subscribes and looks who is there. It takes no longer than
// the bus's timeout.
func open(c *connection) (*session, error) {
	ctx, cancel := context.WithCancel(c.ctx)
	// The context that ends a connection attempt is the connection's own.
	timer := time.AfterFunc(c.timeout, cancel)
	s := &session{bus: c, owners: make(map[string]string)}
	err := s.open(ctx)
	if inTime := timer.Stop(); err == nil && inTime {
		return s, nil
	} else if !inTime && c.ctx.Err() == nil {
		c.silence.note("")
		err = fmt.Errorf("%q %w within %s", c.address, ErrSilent, c.timeout)
	}
	cancel()
	return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
}

func (s *session) open(ctx context.Context) (err error) {
	s.conn, err = dbus.Connect(s.bus.address, dbus.WithContext(ctx), dbus.WithSignalHandler(s))
	if err != nil {
		return err
	}
	return s.look(ctx)
}

// look subscribes to signals, and asks who owns the names in programs. It sends
// everything before it waits for the first answer: together it is one round
// trip, which matters where each one takes long.
func (s *session) look(ctx context.Context) error {
	rules := slices.Clone(subscriptions)
	for name := range maps.Keys(programs) {
		rules = append(rules, "type='signal',sender='"+busName+"',interface='"+busName+"',member='NameOwnerChanged',arg0='"+name+"'")
	}
	var subscribed []*dbus.Call
	for _, rule := range rules {
		subscribed = append(subscribed, s.send(ctx, "AddMatch", rule))
	}
	asked := make(map[string]*dbus.Call)
	for name := range maps.Keys(programs) {
		asked[name] = s.send(ctx, "GetNameOwner", name)
	}
	for _, c := range subscribed {
		if err := (<-c.Done).Err; err != nil {
			return err
		}
	}
	for name, c := range asked {
		var owner string
		err := (<-c.Done).Store(&owner)
		if is(err, "org.freedesktop.DBus.Error.NameHasNoOwner") {
			owner = ""
		} else if err != nil {
			return err
		}
		s.mu.Lock()
		if _, told := s.owners[name]; !told { // a signal is newer than the answer
			s.owners[name] = owner
		}
		s.mu.Unlock()
	}
	return nil
}

// send calls a method of the bus itself and does not wait for the answer, which
// the call's channel yields.
func (s *session) send(ctx context.Context, method string, arg any) *dbus.Call {
	return s.conn.Object(busName, "/org/freedesktop/DBus").GoWithContext(ctx, busName+"."+method, 0, make(chan *dbus.Call, 1), arg)
}

// call calls a method and stores what it returns. It never starts a service.
func (s *session) call(ctx context.Context, service string, path dbus.ObjectPath, method string, args []any, results ...any) error {
	c := s.conn.Object(service, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	if c.Err != nil {
		return c.Err
	}
	if err := dbus.Store(c.Body, results...); err != nil {
		return fmt.Errorf("cannot decode the reply to %s: %w", method, err)
	}
	return nil
}

// is reports whether err is the D-Bus error of that name.
func is(err error, names ...string) bool {
	e, ok := errors.AsType[dbus.Error](err)
	return ok && slices.Contains(names, e.Name)
}

// runs reports whether somebody owns the service's name.
func (s *session) runs(service string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owners[service] != ""
}

// sentBy reports whether the sender of a signal is the service: everybody on
// the bus may send us signals in everybody's words.
func (s *session) sentBy(sender, service string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sender != "" && s.owners[service] == sender
}

// DeliverSignal implements dbus.SignalHandler. It is called by the reader of
// the connection and does not block.
func (s *session) DeliverSignal(iface, member string, sig *dbus.Signal) {
	switch iface + "." + member {
	case busName + ".NameOwnerChanged":
		var name, before, now string
		if sig.Sender == busName && dbus.Store(sig.Body, &name, &before, &now) == nil {
			s.ownerChanged(name, now)
		}
	case logindName + ".Manager.PrepareForSleep":
		var sleeps bool
		if s.sentBy(sig.Sender, logindName) && dbus.Store(sig.Body, &sleeps) == nil {
			s.bus.signals.tellSleep(sleeps)
		}
	case properties + ".PropertiesChanged":
		if (s.sentBy(sig.Sender, resolvedName) || s.sentBy(sig.Sender, managerName)) && concernsDNS(sig.Body) {
			s.bus.signals.tellDNS()
		}
	}
}

func (s *session) ownerChanged(name, owner string) {
	if programs[name] == "" {
		return
	}
	s.mu.Lock()
	s.owners[name] = owner
	s.mu.Unlock()

	s.bus.silence.forget(name)
	if name == resolvedName || name == managerName {
		s.bus.signals.tellDNS()
	}
	if name == managerName {
		s.bus.signals.tellManager()
	}
}

// concernsDNS reports whether the arguments of PropertiesChanged name a
// property that LinkDNS looks at.
func concernsDNS(body []any) bool {
	var (
		iface   string
		changed map[string]dbus.Variant
		gone    []string
	)
	if dbus.Store(body, &iface, &changed, &gone) != nil {
		return false
	}
	var ours []string
	switch iface {
	case resolvedName + ".Manager":
		ours = []string{"DNS", "DNSEx"}
	case managerName + ".IP6Config":
		ours = []string{"Nameservers", "NameserverData"}
	case managerName + ".Device":
		ours = []string{"Ip6Config"}
	}
	return slices.ContainsFunc(ours, func(p string) bool {
		_, ok := changed[p]
		return ok || slices.Contains(gone, p)
	})
}
