package clat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
	"tnat64d/clat/plan/plantest"
	"tnat64d/siit"
)

// fakeHost is a host in memory that prints what is done to it as the commands
// a person would type. It fails at the command that contains failAt.
type fakeHost struct {
	detecting netip.Addr
	inUse     bool                // what is being detected
	prepared  map[plan.Uplink]int // queues
	o         plan.Observed
	out       []string
	failAt    string
	nodad     bool // addresses are usable at once, as on links without DAD
	optDAD    bool // addresses are in use while they are in DAD
	nobpf     bool // steering is refused for good
	guarded   Guarded
	broken    bool // somebody has removed BPF programs

	routeState uint64
	follows    []string // what the steering was asked to follow

	foreign map[int][]plan.ForeignRoute // routes of other programs, by link

	detached string // link whose guard somebody has removed

	connected bool // programs have connections by the CLAT

	began, flowing []plan.Connection // before there was a next address, and now
	onlyOne        bool              // the steering takes no next address
	busy           bool              // it takes none now

	norules  bool   // no policy routing
	inherits bool   // a TUN that is there is taken over
	noabort  bool   // no CONFIG_INET_DIAG_DESTROY
	vanish   string // the command that contains it finds no link
	source   string // the command that contains it finds no source address

	lastIndex int          // of a TUN
	aborted6  []netip.Addr // IPv6 addresses given to AbortFlows

	meanwhile func() // happens before the next command, once
}

func (h *fakeHost) do(format string, args ...any) error {
	cmd := fmt.Sprintf(format, args...)
	if f := h.meanwhile; f != nil {
		h.meanwhile = nil
		f()
	}
	if h.failAt != "" && strings.Contains(cmd, h.failAt) {
		h.out = append(h.out, cmd+" # fails")
		return fmt.Errorf("the test says no")
	}
	h.out = append(h.out, cmd)
	if h.vanish != "" && strings.Contains(cmd, h.vanish) {
		return errVanished
	}
	if h.source != "" && strings.Contains(cmd, h.source) {
		return unix.EINVAL
	}
	return nil
}

var errVanished = unix.ENODEV

// text returns the commands since the last call.
func (h *fakeHost) text() string {
	s := strings.Join(h.out, "\n")
	h.out = nil
	return s
}

// Detect is over at the second call.
func (h *fakeHost) Detect(link int, name string, a netip.Addr) (time.Duration, error) {
	if h.detecting != a {
		h.detecting = a
		return time.Second, h.do("detect %s on %s", a, name)
	}
	if h.inUse {
		return 0, plan.ErrAddrInUse
	}
	return 0, nil
}

func (h *fakeHost) EndDetect(int) { h.detecting = netip.Addr{} }

func (h *fakeHost) AddCLATAddr(link int, a netip.Addr, detected bool) error {
	nodad := ""
	if detected {
		nodad = " nodad"
	}
	if err := h.do("ip -6 addr add %s/128 dev %s preferred_lft 0 noprefixroute%s proto %d", a, h.o.LinkName(link), nodad, plan.Protocol); err != nil {
		return err
	}
	h.o.Addrs = append(h.o.Addrs, plan.Addr{
		Link: link, Prefix: netip.PrefixFrom(a, 128), Deprecated: true, NoRoute: true, Tentative: !detected && !h.nodad && !h.optDAD, Optimistic: h.optDAD, Valid: plan.Forever, Protocol: plan.Protocol,
	})
	return nil
}

func (h *fakeHost) DelCLATAddr(link int, a netip.Addr) error {
	if err := h.do("ip -6 addr del %s/128 dev %s", a, h.o.LinkName(link)); err != nil {
		return err
	}
	h.dropAddr(a)
	return nil
}

func (h *fakeHost) dropAddr(a netip.Addr) {
	h.o.Addrs = slices.DeleteFunc(h.o.Addrs, func(e plan.Addr) bool { return e.Prefix.Addr() == a })
}

// dad ends DAD for every tentative address.
func (h *fakeHost) dad(ok bool) {
	for i := range h.o.Addrs {
		if a := &h.o.Addrs[i]; a.Tentative || a.Optimistic {
			a.Tentative, a.Optimistic, a.DADFailed = !ok, false, !ok
		}
	}
}

func (h *fakeHost) SetTUN(t plan.TUNLink) error {
	name := h.o.LinkName(t.Index)
	if err := h.do("ip link set %s mtu %d alias %q up; ip addr add %s/32 dev %s", name, t.MTU, t.Alias, t.IPv4, name); err != nil {
		return err
	}
	if _, ok := h.o.LinkByIndex(t.Index); !ok {
		return unix.ENODEV
	}
	for i := range h.o.Links {
		if l := &h.o.Links[i]; l.Index == t.Index {
			l.MTU, l.Alias, l.Up = int(t.MTU), t.Alias, true
		}
	}
	h.dropAddr(t.IPv4)
	h.o.Addrs = append(h.o.Addrs, plan.Addr{Link: t.Index, Prefix: netip.PrefixFrom(t.IPv4, 32), Valid: plan.Forever})
	return nil
}

func (h *fakeHost) routeWords(r plan.Route) string {
	table := ""
	if r.Table != plan.TableMain {
		table = fmt.Sprintf(" table %d", r.Table)
	}
	to := "default"
	if r.Part.IsValid() {
		to = r.Part.String()
	}
	return fmt.Sprintf("%s dev %s src %s%s metric %d mtu %d proto %d", to, h.o.LinkName(r.Link), r.Source, table, r.Metric, r.MTU, r.Protocol)
}

func (h *fakeHost) AddRoute(r plan.Route) error {
	if err := h.do("ip route append %s", h.routeWords(r)); err != nil {
		return err
	}
	if _, ok := h.o.LinkByIndex(r.Link); !ok {
		return unix.ENODEV
	}
	if a, ok := h.o.Addr(r.Link, r.Source); !ok || a.NotLocal {
		return unix.EINVAL // as the kernel says it
	}
	h.o.Routes = append(h.o.Routes, r)
	return nil
}

func (h *fakeHost) DelRoute(r plan.Route) error {
	if err := h.do("ip route del %s", h.routeWords(r)); err != nil {
		return err
	}
	h.o.Routes = slices.DeleteFunc(h.o.Routes, func(e plan.Route) bool { return e == r })
	return nil
}

func (h *fakeHost) AddSourceRule(r plan.SourceRule) error {
	if h.norules {
		return errors.ErrUnsupported
	}
	pref := ""
	if r.Priority != 32765 {
		pref = fmt.Sprintf(" pref %d", r.Priority)
	}
	if err := h.do("ip rule add from %s lookup %d%s", r.Source, r.Table, pref); err != nil {
		return err
	}
	h.o.Rules = append(slices.DeleteFunc(h.o.Rules, r.SameFlows), r)
	return nil
}

func (h *fakeHost) DelSourceRule(r plan.SourceRule) error {
	h.o.Rules = slices.DeleteFunc(h.o.Rules, r.SameFlows)
	if h.norules {
		return nil
	}
	return h.do("ip rule del from %s lookup %d", r.Source, r.Table)
}

func (h *fakeHost) Connected(netip.Addr) bool { return h.connected }

func (h *fakeHost) Connections(netip.Addr) []plan.Connection { return nil }

// began are the flows that Began lists.
func (h *fakeHost) Began(netip.Addr, int) []plan.Connection { return h.began }

func (h *fakeHost) AbortFlows(a netip.Addr, which func(plan.Connection) bool) (int, error) {
	if h.noabort {
		return 0, errors.ErrUnsupported
	}
	if a.Is6() { // programs that were given the CLAT address as a source
		h.aborted6 = append(h.aborted6, a)
		return 0, nil
	}
	if which == nil {
		return 1, h.do("ss -K src %s", a)
	}
	n := 0
	for _, c := range h.flowing {
		if which(c) {
			n++
			if err := h.do("ss -K src %s sport %d", a, c.Port); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (h *fakeHost) RouteState(netip.Prefix) uint64 { return h.routeState }

func (h *fakeHost) Prepare(uplink plan.Uplink, queues int) {
	if h.prepared == nil {
		h.prepared = map[plan.Uplink]int{}
	}
	h.prepared[uplink] = queues
}

func (h *fakeHost) Unprepare(uplink plan.Uplink) { delete(h.prepared, uplink) }

func (h *fakeHost) Guard(link int, g Guarded) (Guard, error) {
	h.guarded = g
	name := h.o.LinkName(link)
	if h.detached == name {
		h.detached = ""
	}
	return &fakeGuard{h: h, link: name}, h.do("guard %s", name)
}

type fakeGuard struct {
	h    *fakeHost
	link string
}

func (g *fakeGuard) Intact() bool { return g.h.detached != g.link }

func (g *fakeGuard) SetGuarded(to Guarded) error {
	g.h.guarded = to
	return nil
}

func (g *fakeGuard) Close() error { return g.h.do("unguard %s", g.link) }

func (h *fakeHost) Open(name string, queues int, uplink plan.Uplink) (Path, error) {
	if err := h.do("tun open %s queues %d", name, queues); err != nil {
		return nil, err
	}
	if l, ok := h.o.LinkByName(name); ok && h.inherits {
		return &fakePath{h: h, index: l.Index, name: name}, nil
	}
	// The kernel gives no index again that a link has just had.
	h.lastIndex = max(h.lastIndex+1, 100)
	for _, l := range h.o.Links {
		h.lastIndex = max(h.lastIndex, l.Index+1)
	}
	index := h.lastIndex
	h.o.Links = append(h.o.Links, plan.Link{Index: index, Name: name, Kind: "tun", Carrier: true, MTU: 1500})
	return &fakePath{h: h, index: index, name: name}, nil
}

// dropLink removes a link with what is on it, as the kernel does.
func (h *fakeHost) dropLink(index int) {
	delete(h.foreign, index)
	h.o.Links = slices.DeleteFunc(h.o.Links, func(l plan.Link) bool { return l.Index == index })
	h.o.Addrs = slices.DeleteFunc(h.o.Addrs, func(a plan.Addr) bool { return a.Link == index })
	h.o.Routes = slices.DeleteFunc(h.o.Routes, func(r plan.Route) bool { return r.Link == index })
}

type fakePath struct {
	h                       *fakeHost
	index                   int
	name                    string
	translates, hasSteering bool
}

func (p *fakePath) Index() int { return p.index }

func (p *fakePath) Steer(uplink int, ours []netip.Prefix, share Share, _ Begun, g Guarded) (Steering, error) {
	h := p.h
	h.guarded = g
	if h.nobpf {
		h.out = append(h.out, fmt.Sprintf("steer %s and %s # refused", h.o.LinkName(uplink), h.o.LinkName(p.index)))
		return nil, &SteeringRefused{Why: "no BPF here"}
	}
	h.broken = false
	shares := ""
	if share != (Share{}) {
		shares = fmt.Sprintf(" shares %s", share.Addr)
	}
	if err := h.do("steer %s and %s ours %v%s", h.o.LinkName(uplink), h.o.LinkName(p.index), ours, shares); err != nil {
		return nil, err
	}
	p.hasSteering = true
	return &fakeSteering{h: h, path: p}, nil
}

func (p *fakePath) SetMapping(siit.Config) error {
	if p.translates {
		return p.h.do("engine translator")
	}
	if err := p.h.do("engine start on %s", p.h.o.LinkName(p.index)); err != nil {
		return err
	}
	p.translates = true
	return nil
}

func (p *fakePath) Close() error {
	var errs []error
	if p.translates {
		errs = append(errs, p.h.do("engine close"))
	}
	if p.hasSteering {
		errs = append(errs, p.h.do("steer close"))
	}
	errs = append(errs, p.h.do("tun close %s", p.name))
	p.h.dropLink(p.index)
	return errors.Join(errs...)
}

type fakeSteering struct {
	h     *fakeHost
	path  *fakePath
	keeps []plan.Connection
}

func (s *fakeSteering) Intact() bool { return !s.h.broken }

func (s *fakeSteering) SetOurs(ours []netip.Prefix) error { return s.h.do("steer ours %v", ours) }

func (s *fakeSteering) SetShared(to Share) error { return s.h.do("steer shares %s", to.Addr) }

func (s *fakeSteering) SetGuarded(g Guarded) error {
	s.h.guarded = g
	return nil
}

func (s *fakeSteering) SetDropUnicastToMany(drop bool) error {
	return s.h.do("steer drop unicast to many %v", drop)
}

func (s *fakeSteering) Follow(src netip.Addr, dst netip.Prefix, networks []netip.Prefix, via netip.Addr) error {
	follow := fmt.Sprintf("%s to %s", src, dst)
	if via.IsValid() {
		follow += " via " + via.String()
	}
	for _, n := range networks {
		follow += " and " + n.String()
	}
	s.h.follows = append(s.h.follows, follow)
	return nil
}

func (s *fakeSteering) SetNext(n Next, pref64 netip.Prefix, begun func() []plan.Connection) error {
	if s.h.onlyOne {
		return errors.ErrUnsupported
	}
	if s.h.busy && n != (Next{}) {
		return errors.New("too many flows")
	}
	if n == (Next{}) {
		return s.h.do("steer next none")
	}
	s.keeps = begun()
	return s.h.do("steer next %s for new flows to %s", n.Addr, pref64)
}

func (s *fakeSteering) KeepsMain(c plan.Connection) bool { return slices.Contains(s.keeps, c) }

func (s *fakeSteering) Suspend() error { return s.h.do("steer suspend") }

func (s *fakeSteering) Close() error {
	s.path.hasSteering = false
	return s.h.do("steer close")
}

// addNative gives a link native IPv4.
func (h *fakeHost) addNative(link, metric int) {
	h.o.Routes = append(h.o.Routes, plan.Route{Link: link, Table: plan.TableMain, Metric: metric})
	plantest.AddEgress(&h.o, link, netip.AddrFrom4([4]byte{10, byte(link), 0, 2}), 0, plan.GlobalIPv4)
}

// dropNative ends native IPv4 on every link.
func (h *fakeHost) dropNative() {
	h.o.Routes = slices.DeleteFunc(h.o.Routes, func(r plan.Route) bool { return !r.IPv6 && r.Protocol != plan.Protocol })
	h.o.Addrs = slices.DeleteFunc(h.o.Addrs, func(a plan.Addr) bool { return plan.UsableIPv4(a.Prefix.Addr()) })
	h.o.Egress4 = nil
}

func (h *fakeHost) ForeignRoutes(link int, _ bool) ([]plan.ForeignRoute, bool) {
	return slices.Clone(h.foreign[link]), true
}

func (h *fakeHost) AddForeignRoute(link int, f plan.ForeignRoute) error {
	if err := h.do("ip route add %s dev %s metric %d", f.Destination, h.o.LinkName(link), f.Metric); err != nil {
		return err
	}
	if h.foreign == nil {
		h.foreign = map[int][]plan.ForeignRoute{}
	}
	if !slices.Contains(h.foreign[link], f) {
		h.foreign[link] = append(h.foreign[link], f)
	}
	return nil
}
