package dns64

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Options are what a [Server] is made of.
type Options struct {
	Rules *Rules
	// Listen are the addresses to answer at, over UDP and TCP.
	Listen []netip.AddrPort
	// Upstream returns the resolvers to ask, in order. It is called for every
	// question that the cache cannot answer.
	Upstream func() []netip.AddrPort
	// Clients reports whether an address may ask. A link-local one has the
	// interface as its zone.
	Clients func(netip.Addr) bool
	// Zones are local.
	Zones []*Zone
	// QueriesPerSecond limits the clients of each /64 together; 0: no limit.
	QueriesPerSecond int
	// CacheEntries bounds the cache; 0: there is none.
	CacheEntries int
	// Log takes what goes wrong, and with LogQueries every query.
	Log        *slog.Logger
	LogQueries bool
}

// Server answers DNS queries over UDP and TCP.
type Server struct {
	options   Options
	resolver  *resolver
	admission *admission
	counters  [outcomes]atomic.Uint64
}

// New prepares a server. It opens nothing yet; see [Server.Run].
func New(o Options) (*Server, error) {
	if o.Rules == nil || o.Upstream == nil || o.Clients == nil || o.Log == nil {
		return nil, errors.New("a DNS64 server needs rules, upstream resolvers, clients and a log")
	}
	s := &Server{options: o, admission: newAdmission(o.QueriesPerSecond, time.Now)}
	for _, z := range o.Zones {
		z.name = dns.CanonicalName(z.Name)
		z.now = time.Now
		z.problem = func(err error) { o.Log.Warn("cannot read a DNS64 zone; keeping its last content", "reason", err) }
	}
	s.resolver = &resolver{
		running:  context.Background(),
		zones:    slices.Clone(o.Zones),
		cache:    newCache(o.CacheEntries, time.Now),
		upstream: &upstream{servers: o.Upstream, now: time.Now, silent: map[netip.AddrPort]time.Time{}},
		slots:    make(chan struct{}, maxExchanges),
	}
	slices.SortStableFunc(s.resolver.zones, func(a, b *Zone) int { return dns.CountLabel(b.name) - dns.CountLabel(a.name) })
	return s, nil
}

// Run listens and answers until ctx ends. An address that cannot be bound is an
// error.
func (s *Server) Run(ctx context.Context) error {
	var servers []*dns.Server
	for _, addr := range s.options.Listen {
		udp, tcp, err := bind(ctx, addr)
		if err != nil {
			for _, started := range servers {
				if started.PacketConn != nil {
					started.PacketConn.Close()
				} else {
					started.Listener.Close()
				}
			}
			return cannotListen(addr, err)
		}
		servers = append(servers, s.serverUDP(udp), s.serverTCP(tcp))
	}
	return s.serve(ctx, servers)
}

// Probe binds the addresses of s for a moment and returns why one of them cannot be
// bound. Those at which running answers, in whose place s is to be, are left out; it
// may be nil.
func (s *Server) Probe(ctx context.Context, running *Server) error {
	for _, addr := range s.options.Listen {
		if running != nil && running.has(addr) {
			continue
		}
		udp, tcp, err := bind(ctx, addr)
		if err != nil {
			return cannotListen(addr, err)
		}
		udp.Close()
		tcp.Close()
	}
	return nil
}

// has reports whether s would be in the way of another server at an address.
func (s *Server) has(addr netip.AddrPort) bool {
	return slices.ContainsFunc(s.options.Listen, func(l netip.AddrPort) bool {
		return l == addr || l.Port() == addr.Port() && (l.Addr().IsUnspecified() || addr.Addr().IsUnspecified())
	})
}

func cannotListen(addr netip.AddrPort, err error) error {
	return fmt.Errorf("cannot listen for DNS queries at %v: %w", addr, err)
}

func (s *Server) serverUDP(c net.PacketConn) *dns.Server {
	return &dns.Server{
		PacketConn: c, Handler: s, UDPSize: dns.MinMsgSize * 8,
		MsgAcceptFunc: s.accept, MsgInvalidFunc: s.invalid,
		DecorateReader: func(r dns.Reader) dns.Reader { return udpReader{r, s} },
	}
}

func (s *Server) serverTCP(l net.Listener) *dns.Server {
	return &dns.Server{
		Listener: tcpListener{l, s}, Handler: s,
		MsgAcceptFunc: s.accept, MsgInvalidFunc: s.invalid,
		ReadTimeout: tcpRead, MaxTCPQueries: tcpQueries,
		IdleTimeout: func() time.Duration { return tcpIdle },
	}
}

func (s *Server) serve(ctx context.Context, servers []*dns.Server) error {
	group, ctx := errgroup.WithContext(ctx)
	s.resolver.running = ctx
	for _, server := range servers {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		group.Go(server.ActivateAndServe)
		group.Go(func() error {
			<-ctx.Done()
			select {
			case <-started:
			case <-time.After(time.Second): // it did not start, and says so itself
			}
			end, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			server.ShutdownContext(end)
			return nil
		})
	}
	return group.Wait()
}

// accept judges a header, as miekg/dns does by default: it answers or ignores
// what is no query.
func (s *Server) accept(h dns.Header) dns.MsgAcceptAction {
	action := dns.DefaultMsgAcceptFunc(h)
	switch action {
	case dns.MsgAccept:
	case dns.MsgRejectNotImplemented:
		s.count(NotImplemented)
	default:
		s.count(Malformed)
	}
	return action
}

func (s *Server) invalid([]byte, error) { s.count(Malformed) }

// ServeDNS answers one query. Over TCP it returns before the answer is ready, so that
// the dns package reads the next query of the connection.
func (s *Server) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	switch from := w.RemoteAddr().(type) {
	case peer:
		// Not by w, which only the reading goroutine may use.
		from.conn.handle(func() { s.respond(&dns.Conn{Conn: from.conn}, from, query) })
	default:
		s.respond(w, from, query)
	}
}

// respond writes the answer to one query by a single Write, or writes nothing.
func (s *Server) respond(w io.Writer, from net.Addr, query *dns.Msg) {
	start := time.Now()
	source := sourceOf(from)
	release, refused, ok := s.admission.query(source)
	if !ok {
		// No reply: it would cost as much as an answer, and the client asks again.
		s.count(refused)
		return
	}
	defer release()
	_, overTCP := from.(peer)
	reply, outcome := s.answer(query, overTCP)
	s.count(outcome)
	if outcome == Failed && s.resolver.running.Err() != nil {
		return // the server stops: the client asks again, perhaps a successor
	}
	finish(reply, query, overTCP)
	if packed, err := reply.Pack(); err == nil {
		_, _ = w.Write(packed) // an error means that the client has gone
	}
	if s.options.LogQueries && len(query.Question) == 1 {
		q := query.Question[0]
		s.options.Log.Info("DNS query", "client", source, "name", q.Name, "type", dns.Type(q.Qtype).String(),
			"outcome", outcome.String(), "rcode", dns.RcodeToString[reply.Rcode], "took", time.Since(start).Round(time.Microsecond))
	}
}

// answer returns the reply to a query, whole and without OPT record.
func (s *Server) answer(query *dns.Msg, overTCP bool) (*dns.Msg, Outcome) {
	refuse := func(rcode int, o Outcome) (*dns.Msg, Outcome) {
		m := reply(query)
		m.Rcode = rcode
		return m, o
	}
	switch {
	case query.Opcode != dns.OpcodeQuery:
		return refuse(dns.RcodeNotImplemented, NotImplemented)
	case len(query.Question) != 1 || query.Response:
		return refuse(dns.RcodeFormatError, Malformed)
	}
	q := query.Question[0]
	if opt := query.IsEdns0(); opt != nil && opt.Version() != 0 {
		return refuse(dns.RcodeBadVers, BadVersion) // RFC 6891 section 6.1.3
	}
	switch q.Qtype {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB:
		return refuse(dns.RcodeRefused, Refused)
	case dns.TypeANY:
		if !overTCP {
			// RFC 8482 section 4.4: the longest of answers only to who is there.
			m := reply(query)
			m.Truncated = true
			return m, Passed
		}
	}
	k := key{name: dns.CanonicalName(q.Name), qtype: q.Qtype, qclass: q.Qclass,
		do: wantsDNSSEC(query), cd: query.CheckingDisabled, ad: query.AuthenticatedData}
	if !query.RecursionDesired {
		// What others have asked is nobody's business: only local zones.
		if q.Qclass != dns.ClassINET || s.resolver.zones.lookup(k.name, k.qtype) == nil {
			return refuse(dns.RcodeRefused, Refused)
		}
	}
	// The lookups of one query end with the client's patience.
	ctx, cancel := context.WithTimeout(s.resolver.running, 2*lookupTimeout)
	defer cancel()
	if q.Qclass != dns.ClassINET {
		// RFC 6147 section 5.1: for classes other than IN "a DNS64 MUST behave
		// as though no DNS64 function is configured".
		m, err := s.resolver.lookup(ctx, k)
		if err != nil {
			return refuse(dns.RcodeServerFailure, Failed)
		}
		return passed(query, m), outcomeOf(m)
	}
	return s.options.Rules.Answer(query, func(name string, qtype uint16) (*dns.Msg, error) {
		k.name, k.qtype = dns.CanonicalName(name), qtype
		return s.resolver.lookup(ctx, k)
	})
}

// finish gives a reply the OPT record that belongs to the query and the size
// that fits (RFC 6891 section 6.2.5; RFC 1035 section 4.2.1: 512 bytes).
func finish(reply, query *dns.Msg, overTCP bool) {
	size := dns.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		size = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
		answer := new(dns.OPT)
		answer.Hdr.Name, answer.Hdr.Rrtype = ".", dns.TypeOPT
		answer.SetUDPSize(udpSize)
		answer.SetDo(opt.Do())
		reply.Extra = append(slices.Clone(reply.Extra), answer)
	} else if reply.Rcode > 15 {
		reply.Rcode = dns.RcodeServerFailure
	}
	if overTCP {
		size = dns.MaxMsgSize
	}
	reply.Compress = true
	truncated := reply.Truncated
	reply.Truncate(size)
	reply.Truncated = reply.Truncated || truncated
}

// mayAsk reports whether a source may use this DNS64.
func (s *Server) mayAsk(a net.Addr) bool {
	source := sourceOf(a)
	return source.IsValid() && s.options.Clients(source)
}

func (s *Server) count(o Outcome) { s.counters[o].Add(1) }

// Stats are counters since the start.
type Stats struct {
	Outcomes [outcomes]uint64 // by Outcome
	Cached   int              // responses in the cache
}

// Stats returns the counters.
func (s *Server) Stats() (stats Stats) {
	for i := range s.counters {
		stats.Outcomes[i] = s.counters[i].Load()
	}
	stats.Cached = s.resolver.cache.length()
	return stats
}
