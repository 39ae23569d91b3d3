package pref64

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// listenAgain is the time between attempts to open the sockets for Router
// Advertisements.
const listenAgain = 30 * time.Second

// Options say where and how a Finder looks.
type Options struct {
	Interface int            // index
	Name      string         // of the interface, for messages
	Static    []netip.Prefix // if not empty, these are used and nothing is discovered
	RA, DNS   bool           // discovery.sources
	Servers   []netip.Addr   // if not empty, only these are asked

	// Resolvers returns the link's own resolvers besides those that routers
	// advertise. It is called before each round of questions, from another
	// goroutine, and must return when its ctx ends, after two seconds. nil:
	// there are none.
	Resolvers func(ctx context.Context) []netip.Addr

	Log *slog.Logger // should carry the name of the interface
}

// Finder finds the PREF64 of one uplink, by all means that its Options allow:
// a Tracker together with what feeds it.
//
// Its Changed also signals, rate-limited, when anything else in its Snapshot
// except times changes.
type Finder struct {
	*Tracker
	options Options
	source  attachable    // nil: not used
	dns     *dnsDiscovery // nil: not used

	mu        sync.Mutex
	listening error // why Router Advertisements cannot be received at present
}

// attachable is a Source that can solicit.
type attachable interface {
	Source
	Solicit()
	renew()
	attached()
}

// NewFinder returns a Finder that knows the static prefixes. Run starts the
// search for others.
func NewFinder(o Options) *Finder {
	return newFinder(o, NewRASource(o.Interface, o.Log), dialOver(o.Interface))
}

func newFinder(o Options, source attachable, dial dialFunc) *Finder {
	f := &Finder{Tracker: NewTracker(o.Static, o.Log), options: o}
	if len(o.Static) == 0 && (o.RA || o.DNS) {
		f.source = source // for DNS too: routers name the resolvers
	}
	if len(o.Static) == 0 && o.DNS {
		f.dns = &dnsDiscovery{
			tracker:   f.Tracker,
			ifindex:   o.Interface,
			name:      o.Name,
			servers:   o.Servers,
			resolvers: o.Resolvers,
			dial:      dial,
			again:     make(chan struct{}, 1),
		}
	}
	f.event(func(s *state, now time.Time) {
		if f.source != nil {
			s.solicit = f.source.renew
		}
		s.inquiry.enabled, s.inquiry.routers = f.dns != nil, f.source != nil && o.RA
	})
	f.Tracker.mu.Lock()
	defer f.Tracker.mu.Unlock()
	f.state.news = newNews(true, "")
	f.state.news.digest = digest(&f.state, time.Now())
	return f
}

// Run looks for prefixes until ctx ends, and then closes f. It opens sockets in
// the network namespace of the process.
func (f *Finder) Run(ctx context.Context) {
	defer f.Close()
	var parts sync.WaitGroup
	defer parts.Wait()
	if f.source != nil {
		parts.Go(func() { f.listen(ctx) })
	}
	if f.dns != nil {
		parts.Go(func() { f.dns.run(ctx) })
	}
	<-ctx.Done()
}

func (f *Finder) listen(ctx context.Context) {
	for said := false; ; said = true {
		err := f.source.Run(ctx, f.hear)
		if ctx.Err() != nil {
			return
		}
		if !said {
			f.options.Log.Error("cannot listen for router advertisements; retrying every 30 seconds", "reason", err)
		}
		f.setListening(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(listenAgain):
		}
		f.setListening(nil)
	}
}

// hear takes in what routers say, without prefixes if those are not to be used.
func (f *Finder) hear(r Report) {
	if !f.options.RA {
		r.Observations = nil
	}
	f.Apply(r)
}

func (f *Finder) setListening(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listening = err
}

// Refresh asks the routers again, and the resolvers if they are asked at all.
// Call it when the network may have changed.
func (f *Finder) Refresh() {
	if f.source != nil {
		f.source.Solicit()
	}
	f.ResolversChanged()
}

// ResolversChanged reports that Options.Resolvers may return other servers.
// These are asked, if DNS is asked at all.
func (f *Finder) ResolversChanged() {
	if f.dns != nil {
		select {
		case f.dns.again <- struct{}{}:
		default:
		}
	}
}

// Attached reports that the link got carrier, perhaps that of another network.
// It asks the routers at once. What was heard before is used until the first
// Router Advertisement of a default router that does not confirm it, or until
// five seconds have passed without one.
func (f *Finder) Attached() {
	f.event((*state).attach)
	if f.source != nil {
		f.source.attached()
	}
}

// Pause stops asking DNS while paused is true: there is native IPv4, or no
// network.
func (f *Finder) Pause(paused bool) {
	f.event(func(s *state, _ time.Time) { s.inquiry.paused = paused })
}
