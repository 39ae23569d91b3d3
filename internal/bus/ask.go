package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// question is a series of calls to one service, within one timeout.
type question struct {
	ctx     context.Context
	session *session
	service string
}

// ask lets f call methods of a service. It returns at once if the service is
// not running or has recently been silent.
func (b *Bus) ask(ctx context.Context, service string, f func(question) error) error {
	s, err := b.connection.connect(ctx)
	if err != nil {
		return err
	}
	if !s.runs(service) {
		return fmt.Errorf("%s is %w", programs[service], ErrNotRunning)
	}
	if rest := b.connection.silence.left(service); rest > 0 {
		return fmt.Errorf("%s %w; asked again in %s", programs[service], ErrSilent, rest)
	}

	limited, cancel := context.WithTimeout(ctx, b.connection.timeout)
	defer cancel()
	err = f(question{limited, s, service})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		b.connection.silence.note(service)
		return fmt.Errorf("%s %w within %s", programs[service], ErrSilent, b.connection.timeout)
	case s.conn.Context().Err() != nil:
		return fmt.Errorf("%w: the connection has been closed", ErrNoBus)
	case is(err, "org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.ServiceUnknown"):
		return fmt.Errorf("%s is %w", programs[service], ErrNotRunning)
	}
	return fmt.Errorf("%s: %w", programs[service], err)
}

// call calls a method, whose name begins with its interface.
func (q question) call(path dbus.ObjectPath, method string, args []any, results ...any) error {
	return q.session.call(q.ctx, q.service, path, method, args, results...)
}

// property reads one property into what result points to.
func (q question) property(path dbus.ObjectPath, iface, name string, result any) error {
	var v dbus.Variant
	if err := q.call(path, properties+".Get", []any{iface, name}, &v); err != nil {
		return err
	}
	if err := v.Store(result); err != nil {
		return fmt.Errorf("%s.%s is not understood: %w", iface, name, err)
	}
	return nil
}

// properties reads all properties of an interface.
func (q question) properties(path dbus.ObjectPath, iface string) (props, error) {
	var p props
	err := q.call(path, properties+".GetAll", []any{iface}, &p)
	return p, err
}

// props are properties by name.
type props map[string]dbus.Variant

// store stores a property in what result points to and reports whether it is
// there and of the right type.
func (p props) store(name string, result any) bool {
	v, ok := p[name]
	return ok && v.Store(result) == nil
}

// object returns a property that is the path of another object; empty if there
// is none, which D-Bus writes as "/".
func (p props) object(name string) dbus.ObjectPath {
	var path dbus.ObjectPath
	if !p.store(name, &path) || path == "/" {
		return ""
	}
	return path
}
