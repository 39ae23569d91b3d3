package advertise

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mdlayher/ndp"
)

// ErrStandby says that another router has the address that advertisements come
// from: nothing is to be sent, and that is no fault.
var ErrStandby = errors.New("standby")

// Link is a link that advertisements are sent on.
type Link interface {
	// State returns what the link is now. Without a link-local address, or
	// while the link is down, it is an error; [ErrStandby] if that address is
	// configured and not there.
	State() (State, error)
	// Open opens a socket from the link-local address.
	Open() (Conn, error)
}

// Conn is a socket of a [Link].
type Conn interface {
	// Send sends an advertisement to all nodes.
	Send(*ndp.RouterAdvertisement) error
	// Receive waits for the next message of another node that is valid as far
	// as the message itself says (RFC 4861 sections 6.1.1 and 6.1.2).
	Receive() (ndp.Message, netip.Addr, error)
	Close() error
}

// Counters of an advertiser.
type Counters struct {
	Sent          uint64 // advertisements
	Solicitations uint64
	Others        uint64 // advertisements of other routers
	Disagreements uint64 // of those that disagree
	Failed        uint64 // could not be sent
}

// Advertiser sends advertisements on one link.
type Advertiser struct {
	name   string
	link   Link
	params Parameters
	store  Store
	log    *slog.Logger
	past   history // Run alone uses it

	sent, solicitations, others, disagreements, failed atomic.Uint64
}

// New prepares an advertiser for the link of that name. Without a store it knows
// only what it has advertised itself.
func New(name string, link Link, p Parameters, store Store, log *slog.Logger) *Advertiser {
	return &Advertiser{name: name, link: link, params: p, store: store, log: log.With("interface", name)}
}

// Counters returns what has been counted since the start.
func (a *Advertiser) Counters() Counters {
	return Counters{a.sent.Load(), a.solicitations.Load(), a.others.Load(), a.disagreements.Load(), a.failed.Load()}
}

// Name returns the name of the link.
func (a *Advertiser) Name() string { return a.name }

const (
	// retryInterval is how long a link that is down or gone is left alone.
	retryInterval = time.Second
	// patience is how many attempts may fail before it is logged.
	patience = 4
	// stateInterval is how often the link is compared with what was announced.
	stateInterval = 5 * time.Second
	// maxReceived bounds the messages that wait; more are lost, as on the wire.
	maxReceived = 16
)

// Successor is the cause with which the context of [Advertiser.Run] ends where
// another advertiser goes on at once on these links: there nothing is withdrawn.
type Successor struct{ Links []string }

// Error says it in words.
func (s *Successor) Error() string { return "another advertiser takes over" }

// Run advertises until ctx ends, and then withdraws this router, unless a
// [Successor] goes on. A link that is down or not there is waited for.
func (a *Advertiser) Run(ctx context.Context) {
	a.restore()
	failed, standby := 0, false
	for ctx.Err() == nil {
		begun := a.sent.Load()
		err := a.session(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			break
		}
		if a.sent.Load() > begun {
			failed, standby = 0, false
		}
		// At first the link-local address of a link is tentative (RFC 4862
		// section 5.4).
		if errors.Is(err, ErrStandby) {
			if !standby {
				a.log.Info("not sending router advertisements", "reason", err)
			}
			standby, failed = true, 0
		} else if failed++; failed == patience {
			a.log.Warn("cannot send router advertisements; retrying", "reason", err)
		}
		wait(ctx, retryInterval)
	}
	// Hosts may have a default route from an earlier session or advertiser.
	if err := a.withdraw(ctx); err != nil && !errors.Is(err, ErrStandby) {
		a.log.Warn("cannot withdraw this router: hosts keep its default route until it expires", "reason", err)
	}
}

// restore reads which prefixes were advertised before the start.
func (a *Advertiser) restore() {
	if a.store == nil {
		return
	}
	all, err := a.store.Load()
	if err != nil {
		a.log.Warn("cannot tell which prefixes were advertised before; hosts keep addresses in them until they expire", "reason", err)
	}
	now := time.Now()
	a.past.restore(all, now)
	a.past.saved = now
}

// message builds the present advertisement.
func (a *Advertiser) message(s State, final bool) *ndp.RouterAdvertisement {
	return Message(a.params, s, final, a.past.stale(a.params.announced(s), time.Now())...)
}

// record notes what has been advertised, before hosts can have heard of it.
func (a *Advertiser) record(s State) {
	now := time.Now()
	a.past.advertised(a.params.announced(s), now)
	if a.store == nil || !a.past.due(now) {
		return
	}
	if err := a.store.Save(a.past.last); err != nil {
		a.log.Warn("cannot record which prefixes are advertised", "reason", err)
	}
	a.past.saved = now
}

// withdraw sends a last advertisement by a socket of its own.
func (a *Advertiser) withdraw(ctx context.Context) error {
	if a.succeeded(ctx) {
		return nil
	}
	state, err := a.link.State()
	if err != nil {
		return err
	}
	conn, err := a.link.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Send(a.message(state, true))
}

// succeeded reports whether another advertiser goes on on this link after ctx.
func (a *Advertiser) succeeded(ctx context.Context) bool {
	s, ok := errors.AsType[*Successor](context.Cause(ctx))
	return ok && slices.Contains(s.Links, a.name)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// received is a message with its sender.
type received struct {
	m    ndp.Message
	from netip.Addr
}

// session advertises while the link works. It returns nil once ctx has ended and
// the router is withdrawn, or left to a successor.
func (a *Advertiser) session(ctx context.Context) error {
	state, err := a.link.State()
	if err != nil {
		return err
	}
	conn, err := a.link.Open()
	if err != nil {
		return err
	}
	messages, ended := make(chan received, maxReceived), make(chan error, 1)
	go func() { ended <- receive(conn, messages) }()
	defer func() {
		conn.Close()
		<-ended
	}()

	ours := a.message(state, false)
	plan := schedule{interval: interval(a.params.Lifetime), random: rand.N[time.Duration]}
	plan.begin(time.Now())
	renew := func() {
		if now := a.message(state, false); !reflect.DeepEqual(now, ours) {
			ours = now
			plan.solicited(time.Now())
		}
	}
	var known others
	look := time.NewTicker(stateInterval)
	defer look.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		due.Reset(time.Until(plan.next))
		select {
		case <-ctx.Done():
			if a.succeeded(ctx) {
				return nil
			}
			// RFC 4861 section 6.2.5: the last ones have a lifetime of 0.
			return conn.Send(a.message(state, true))
		case err := <-ended:
			ended <- err // for the deferred function
			return err
		case <-due.C:
			a.record(state)
			if err := conn.Send(ours); err != nil {
				a.failed.Add(1)
				return err
			}
			a.sent.Add(1)
			plan.done(time.Now())
		case r := <-messages:
			if a.heard(r, ours, &plan, &known) {
				renew()
			}
		case <-look.C:
			if state, err = a.link.State(); err != nil {
				return err
			}
			renew()
		}
	}
}

// receive hands messages over until the socket is closed or fails.
func receive(conn Conn, to chan<- received) error {
	for {
		m, from, err := conn.Receive()
		if err != nil {
			return err
		}
		select {
		case to <- received{m, from}:
		default: // a flood
		}
	}
}

// heard takes a message of another node. It reports whether ours may have to say
// something else from now on.
func (a *Advertiser) heard(r received, ours *ndp.RouterAdvertisement, plan *schedule, known *others) (changes bool) {
	switch m := r.m.(type) {
	case *ndp.RouterSolicitation:
		a.solicitations.Add(1)
		plan.solicited(time.Now())
	case *ndp.RouterAdvertisement:
		a.others.Add(1)
		changes = a.past.taken(m)
		differences := disagreements(ours, m)
		if len(differences) > 0 {
			a.disagreements.Add(1)
		}
		// RFC 4861 section 6.2.7: "a router SHOULD log", and it goes on.
		for _, s := range known.news(r.from, differences, time.Now()) {
			a.log.Warn("another router advertises something else", "router", r.from, "reason", s)
		}
	}
	return changes
}
