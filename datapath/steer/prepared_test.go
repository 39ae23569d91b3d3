package steer

import (
	"net/netip"
	"testing"
)

// TestPrepared has New use programs that were loaded before the TUN existed, and
// load its own where they were loaded for something else.
func TestPrepared(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config) // between Prepare and New
		taken  bool
	}{
		{"the same", func(*Config) {}, true},
		{"other addresses", func(c *Config) { c.Ours = []netip.Prefix{netip.MustParsePrefix("2001:db8::64/128")} }, true},
		{"another TUN", func(c *Config) { c.TUN++ }, false},
		{"another number of queues", func(c *Config) { c.Queues++ }, false},
		{"another engine", func(c *Config) { c.KernelEngine = !c.KernelEngine }, false},
		{"another token", func(c *Config) { c.Token++ }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			config := Config{Uplink: l.laptop.index(t, l.uplink), TUN: l.tun.index, Queues: 2, KernelEngine: true, Token: testToken}
			before := config
			c.change(&before)
			l.laptop.do(t, func() error {
				p, err := Prepare(before)
				if err != nil {
					return err
				}
				defer p.Close()
				config.Prepared = p
				s, err := New(config)
				if err != nil {
					return err
				}
				if taken := p.objects == nil; taken != c.taken {
					t.Errorf("prepared programs taken: %v", taken)
				}
				if !s.Intact() || (s.KernelEngine() == nil) != config.KernelEngine {
					t.Errorf("intact %v, kernel engine: %v", s.Intact(), s.KernelEngine())
				}
				return s.Close()
			})
		})
	}
}
