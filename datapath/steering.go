package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"tnat64d/datapath/steer"
	"tnat64d/datapath/steernft"
	"tnat64d/internal/cause"
	"tnat64d/siit"
)

// SteeringConfig says which packets a host's translator takes, and from where.
type SteeringConfig struct {
	Uplink  int            // ifindex of the link towards the PLAT
	Ours    []netip.Prefix // IPv6, see [siit.Mapping.Ours]
	Guarded steer.Guarded  // addresses of all translators of the host

	// Share is an address that is shared with the host, which needs BPF; the zero
	// Share is none. The flows are those that have begun on it: see [steer.Config].
	Share                      steer.Share
	TranslatorFlows, HostFlows []steer.Flow
}

// Steering takes packets from the uplink to the TUN, and sends what the user
// engine writes out of the uplink. It is in force until Close, unless another
// program removes a part of it.
type Steering struct {
	path   *Path
	uplink int
	by     steeringBy
	kernel *steer.Steering // nil: by nftables
	why    string          // not by BPF
}

// steeringBy is BPF or nftables.
type steeringBy interface {
	Attached() string
	Intact() bool
	SetOurs(ours []netip.Prefix) error
	SetGuarded(steer.Guarded) error
	SetDropUnicastToMany(drop bool) error
	Suspend() error
	Close() error

	// follow sends packets by the host's routes: those inside PREF64, and the
	// next hop on the uplink for the rest.
	follow(r routesToPLAT) error
	takesHop() bool
	stats() Stats // what cannot be read counts as nothing
}

// Refused is the error of a host that refuses both BPF and nftables.
type Refused struct {
	Why string // one sentence without full stop
	Err error

	// Sharing says that nftables was of no use: an address is to be shared with
	// the host.
	Sharing bool
}

func (e *Refused) Error() string { return e.Why }
func (e *Refused) Unwrap() error { return e.Err }

// EngineRefused is the error of [EngineKernel] where the kernel refuses its
// programs.
type EngineRefused struct{ Err error }

func (e *EngineRefused) Error() string { return e.Err.Error() }
func (e *EngineRefused) Unwrap() error { return e.Err }

// Steer begins to steer, by BPF or, where the kernel refuses that, by nftables.
// A Path has one Steering at a time. The error may be a [*Refused] or an
// [*EngineRefused].
func (p *Path) Steer(c SteeringConfig) (*Steering, error) {
	s := &Steering{path: p, uplink: c.Uplink}
	err := s.byBPF(c)
	if unload := p.options.Prepared.Close(); unload != nil {
		p.options.Log.Debug("cannot unload BPF programs", "tun", p.options.TUN, "reason", unload)
	}
	if refused := (*steer.Error)(nil); errors.As(err, &refused) && refused.Refused() && p.options.Engine != EngineKernel {
		if c.Share != (steer.Share{}) {
			return nil, &Refused{Why: "sharing the host's IPv6 address needs BPF: " + refused.Reason(), Err: err, Sharing: true}
		}
		if err = s.byNFTables(c, refused); err == nil {
			err = errors.Join(p.options.Inherited.Remove(c.Uplink), p.options.Inherited.Remove(p.device.Index))
		}
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steering = s
	if p.user != nil {
		p.user.SetTakesHop(s.by.takesHop())
	}
	if err := s.keepQueues(); err != nil {
		p.options.Log.Debug("cannot keep the TUN for the next start", "tun", p.options.TUN, "reason", err)
	}
	p.chosen = choice{by: "user"}
	if s.why != "" {
		p.chosen.why = "BPF is refused: " + s.why
	}
	return s, nil
}

func (s *Steering) byBPF(c SteeringConfig) error {
	p := s.path
	k, err := steer.New(p.options.steer(c, p.device.Index, len(p.device.Queues)))
	if err != nil {
		return err
	}
	if refused := k.KernelEngine(); refused != nil && p.options.Engine == EngineKernel {
		k.Close()
		return &EngineRefused{refused}
	}
	if err := p.order.keep(&k.Engine); err != nil {
		k.Close()
		return err
	}
	s.by, s.kernel = &bpfSteering{Steering: k}, k
	return nil
}

func (s *Steering) byNFTables(c SteeringConfig, bpf *steer.Error) error {
	n, err := steernft.New(steernft.Config{Uplink: c.Uplink, TUN: s.path.device.Index, Ours: c.Ours})
	s.why = bpf.Reason()
	if cause.Of(err) == cause.Resource || errors.Is(err, unix.ENODEV) {
		return err
	}
	if err != nil {
		return &Refused{Why: fmt.Sprintf("%s; %v", s.why, err), Err: errors.Join(err, bpf)}
	}
	s.by = nftSteering{n}
	p := s.path
	// A TUN of a former process may have a filter that waits for user space.
	if err := p.device.SetFilter(-1); err != nil {
		n.Close()
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err = s.by.SetGuarded(c.Guarded); err == nil && p.user == nil {
		// Without a steering program, which is BPF, the kernel changes the queue
		// of a flow: it sends fragments, and what comes before the first answer,
		// to other queues than the rest, and the packets overtake each other.
		err = p.device.KeepQueues(1)
	}
	if err != nil {
		n.Close()
	}
	return err
}

// Intact reports whether no other program has removed a part of the steering.
func (s *Steering) Intact() bool { return s.by.Intact() }

// SetOurs steers packets to these IPv6 prefixes, and no others.
func (s *Steering) SetOurs(ours []netip.Prefix) error { return s.by.SetOurs(ours) }

// SetShared says which address is shared with the host: see [steer.Steering.SetShared].
// Steer must have been given one.
func (s *Steering) SetShared(to steer.Share) error {
	if s.kernel == nil {
		return nil // Steer refuses to share by nftables
	}
	return s.kernel.SetShared(to)
}

// SetGuarded names the addresses of all translators of the host: see
// [steer.Guarded].
func (s *Steering) SetGuarded(g steer.Guarded) error { return s.by.SetGuarded(g) }

// SetDropUnicastToMany says whether IPv6 unicast in broadcast and multicast
// frames is dropped, as the host does it on the uplink.
func (s *Steering) SetDropUnicastToMany(drop bool) error { return s.by.SetDropUnicastToMany(drop) }

// Suspend ends translation by the kernel engine and drops what the user engine
// sends, until SetOurs or SetShared, and [Path.SetMapping] are called again.
func (s *Steering) Suspend() error {
	s.path.mu.Lock()
	defer s.path.mu.Unlock()
	s.path.mapping = siit.Config{} // nothing but SetMapping resumes
	return s.by.Suspend()
}

// Close ends the steering. The counts stay with the Path.
func (s *Steering) Close() error {
	p := s.path
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.steering != s {
		return nil
	}
	p.past = p.past.Add(s.by.stats())
	p.pastFlows = p.pastFlows.Add(s.flows().Ended())
	p.steering, p.chosen = nil, choice{by: "user"}
	if p.user != nil {
		p.user.SetTakesHop(false)
	}
	return s.by.Close()
}
