package datapath

import (
	"fmt"
	"slices"

	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/siit"
)

// choice is which engine translates simple packets, and why not the kernel's.
type choice struct {
	by  string // "kernel" or "user"
	why string
}

// kernelEngine returns the programs that may translate, or nil. The caller holds
// p.mu.
func (p *Path) kernelEngine() *steer.Engine {
	switch {
	case p.gateway != nil:
		return &p.gateway.kernel.Engine
	case p.steering != nil && p.steering.kernel != nil:
		return &p.steering.kernel.Engine
	}
	return nil
}

// pauses are why the kernel engine must leave to user space what it could
// translate.
type pauses struct {
	broken   error             // a gateway's: it cannot go on
	trace    func(engine.Seen) // somebody traces packets; nil: nobody
	captured bool              // a program captures packets on the TUN
}

// why says why user space translates what is mapped by c on the TUN; empty: the
// kernel engine may.
func (p pauses) why(c siit.Mapping, tun string) string {
	switch {
	case len(c.Networks) > steer.MaxNetworks:
		return fmt.Sprintf("more than %d networks have prefixes of their own", steer.MaxNetworks)
	case len(c.EAM) > steer.MaxEAM:
		return fmt.Sprintf("more than %d explicit address mappings are configured", steer.MaxEAM)
	case p.broken != nil:
		return p.broken.Error()
	case c.Hosts != nil && (len(c.EAM) > 0 || c.Hairpin != siit.HairpinSimple):
		return "explicit address mappings are configured beside the hosts"
	case p.trace != nil:
		return "while packets are traced"
	case p.captured:
		return "while a program captures packets on " + tun
	}
	return ""
}

// applyMapping tells the kernel engine what to translate at present, if there is
// a mapping. The caller holds p.mu.
func (p *Path) applyMapping() error {
	k := p.kernelEngine()
	if k == nil || !p.mapping.Mapping.PREF64.IsValid() {
		return nil
	}
	refused := k.KernelEngine()
	why := p.pauses.why(p.mapping.Mapping, p.options.TUN)
	switch {
	case p.options.Engine == EngineUser:
		why = "as configured"
	case refused != nil:
		why = refused.Error()
	}
	if why == "" {
		p.chosen = choice{by: "kernel"}
		return k.SetTranslation(kernelTranslation(p.mapping))
	}
	p.chosen = choice{by: "user", why: why}
	if refused != nil {
		return nil
	}
	return k.SetTranslation(nil)
}

// kernelTranslation returns what the kernel engine does of c.
func kernelTranslation(c siit.Config) *steer.Translation {
	lowest := c.LowestIPv6MTU
	if lowest == 0 {
		lowest = 1280 // siit's default
	}
	if c.Mapping.Hosts != nil {
		denied := c.DenyIPv4
		if c.PoolIPv4.IsValid() {
			denied = append(slices.Clone(denied), c.PoolIPv4)
		}
		return &steer.Translation{
			PREF64: c.Mapping.PREF64, DeniedIPv4: denied,
			MTU6: c.MTU6, MTU4: c.MTU4, LowestIPv6MTU: lowest, ZeroTrafficClass: c.ZeroTrafficClass, ZeroTOS: c.ZeroTOS, DropWKPPrivate: c.DropWKPPrivate,
		}
	}
	return &steer.Translation{
		IPv4: c.Mapping.CLAT.IPv4, IPv6: c.Mapping.CLAT.IPv6, EAM: c.Mapping.EAM, Networks: c.Mapping.Networks, PREF64: c.Mapping.PREF64,
		MTU6: c.MTU6, MTU4: c.MTU4, LowestIPv6MTU: lowest, ZeroTrafficClass: c.ZeroTrafficClass, ZeroTOS: c.ZeroTOS, DropWKPPrivate: c.DropWKPPrivate, LocalIPv4: slices.Concat(c.LocalIPv4, c.RoutedIPv4),
	}
}

// SetTrace shows every packet to see from now on, for which the kernel engine
// pauses; nil ends that. See [engine.Engine.SetTrace].
func (p *Path) SetTrace(see func(engine.Seen)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pauses.trace = see
	if p.user != nil {
		p.user.SetTrace(see)
	}
	return p.applyMapping()
}

// FollowCaptures pauses the kernel engine while a program captures packets on
// the TUN, which would miss what that engine translates, and reports whether it
// has paused or resumed it. The kernel announces no packet sockets: call it now
// and then.
func (p *Path) FollowCaptures() (changed, captured bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.kernelEngine(); k == nil || k.KernelEngine() != nil {
		return false, false, nil
	}
	captured, err = steer.Captured(p.options.Netlink, p.device.Index)
	if err != nil || captured == p.pauses.captured {
		return false, captured, nil // the interface may just have gone
	}
	p.pauses.captured = captured
	if !p.mapping.Mapping.PREF64.IsValid() {
		return false, captured, nil
	}
	if err := p.applyMapping(); err != nil {
		return false, captured, err
	}
	return true, captured, nil
}
