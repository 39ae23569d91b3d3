package main

import (
	"tnat64d/datapath/steer"
	"tnat64d/internal/config"
	"tnat64d/siit"
)

// Translate makes the kernel engine translate the simple packets of c, where
// there is such an engine and it can do what c asks for.
func (s *steering) Translate(c siit.Config) error {
	s.path.translation = c
	return s.path.applyTranslation()
}

func (s *steering) Suspend() error {
	s.path.translation = siit.Config{} // so that nothing but Translate ends this
	return s.Steering.Suspend()
}

// applyTranslation tells the kernel engine of p what to do at present.
func (p *path) applyTranslation() error {
	t, why := p.kernelTranslation()
	p.byWhom, p.whyUser = "kernel", ""
	if t == nil {
		p.byWhom, p.whyUser = "user", why
		if p.kernel.KernelEngine() != nil {
			return nil
		}
	}
	return p.kernel.SetTranslation(t)
}

// kernelTranslation returns what the kernel engine should do, or nil and why
// everything is left to user space.
func (p *path) kernelTranslation() (t *steer.Translation, why string) {
	c := p.translation
	switch refused := p.kernel.KernelEngine(); {
	case p.data.engine == config.EngineUser:
		return nil, "as configured"
	case refused != nil:
		return nil, refused.Error()
	case len(c.Mapping.EAM) > 0:
		return nil, "explicit address mappings are configured"
	case p.data.traced():
		return nil, "while packets are traced"
	case p.captured:
		return nil, "while a program captures packets on " + p.name
	}
	lowest := c.LowestIPv6MTU
	if lowest == 0 {
		lowest = 1280 // siit's default
	}
	return &steer.Translation{
		IPv4: c.Mapping.CLAT.IPv4, IPv6: c.Mapping.CLAT.IPv6, PREF64: c.Mapping.PREF64,
		MTU6: c.MTU6, MTU4: c.MTU4, LowestIPv6MTU: lowest, DropWKPPrivate: c.DropWKPPrivate, LocalIPv4: c.LocalIPv4,
	}, ""
}
