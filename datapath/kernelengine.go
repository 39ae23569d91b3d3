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

// applyMapping tells the kernel engine what to translate at present. The caller
// holds p.mu.
func (p *Path) applyMapping() error {
	k := p.kernelEngine()
	if k == nil {
		return nil
	}
	t, why := p.kernelTranslation(k)
	p.chosen = choice{by: "kernel"}
	if t == nil {
		p.chosen = choice{by: "user", why: why}
		if k.KernelEngine() != nil {
			return nil
		}
	}
	return k.SetTranslation(t)
}

// kernelTranslation returns what the kernel engine should do, or nil and why
// user space does everything.
func (p *Path) kernelTranslation(k *steer.Engine) (t *steer.Translation, why string) {
	c := p.mapping
	switch refused := k.KernelEngine(); {
	case p.options.Engine == EngineUser:
		return nil, "as configured"
	case refused != nil:
		return nil, refused.Error()
	case len(c.Mapping.EAM) > steer.MaxEAM:
		return nil, fmt.Sprintf("more than %d explicit address mappings are configured", steer.MaxEAM)
	case p.broken != nil:
		return nil, p.broken.Error()
	case c.Mapping.Hosts != nil && (len(c.Mapping.EAM) > 0 || c.Mapping.Hairpin != siit.HairpinSimple):
		return nil, "explicit address mappings are configured beside the hosts"
	case p.see != nil:
		return nil, "while packets are traced"
	case p.captured:
		return nil, "while a program captures packets on " + p.options.TUN
	}
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
			MTU6: c.MTU6, MTU4: c.MTU4, LowestIPv6MTU: lowest, DropWKPPrivate: c.DropWKPPrivate,
		}, ""
	}
	return &steer.Translation{
		IPv4: c.Mapping.CLAT.IPv4, IPv6: c.Mapping.CLAT.IPv6, EAM: c.Mapping.EAM, PREF64: c.Mapping.PREF64,
		MTU6: c.MTU6, MTU4: c.MTU4, LowestIPv6MTU: lowest, DropWKPPrivate: c.DropWKPPrivate, LocalIPv4: c.LocalIPv4,
	}, ""
}

// reconsider lets the kernel engine pause or resume, if there is a mapping. The
// caller holds p.mu.
func (p *Path) reconsider() error {
	if !p.mapping.Mapping.PREF64.IsValid() {
		return nil
	}
	return p.applyMapping()
}

// SetTrace shows every packet to see from now on, for which the kernel engine
// pauses; nil ends that. See [engine.Engine.SetTrace].
func (p *Path) SetTrace(see func(engine.Seen)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.see = see
	if p.user != nil {
		p.user.SetTrace(see)
	}
	return p.reconsider()
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
	if err != nil || captured == p.captured {
		return false, captured, nil // the interface may just have gone
	}
	p.captured = captured
	if !p.mapping.Mapping.PREF64.IsValid() {
		return false, captured, nil
	}
	if err := p.applyMapping(); err != nil {
		return false, captured, err
	}
	return true, captured, nil
}
