package plat

import (
	"log/slog"
	"net/netip"
	"time"

	"tnat64d/plat/nat44"
)

// places tells NAT44 in which /64 the host of each address is, as the limit of a
// network's connections counts there. The zero value tells nobody. The table's lock
// guards it.
type places struct {
	rules  *nat44.Ruleset
	log    *slog.Logger
	warned time.Time // that this failed
}

// put tells of hosts, before their packets pass.
func (p *places) put(hosts ...nat44.Host) {
	if p.rules != nil {
		p.check(p.rules.Place(hosts...))
	}
}

// remove is called before an address is given to another host.
func (p *places) remove(addresses []netip.Addr) {
	if p.rules != nil {
		p.check(p.rules.Displace(addresses))
	}
}

// check warns of an error, at most once a minute: the host is served nevertheless.
func (p *places) check(err error) {
	if now := time.Now(); err != nil && now.Sub(p.warned) > time.Minute {
		p.warned = now
		p.log.Warn("the connections of a host do not count for its /64", "reason", err)
	}
}

// SetRules tells rules where all hosts are, and from then on every change; nil ends
// that.
func (t *Table) SetRules(rules *nat44.Ruleset, log *slog.Logger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places = places{rules: rules, log: log}
	if rules == nil {
		return
	}
	var all []nat44.Host
	for i := range shards {
		for _, e := range t.part(i) {
			all = append(all, e.host())
		}
	}
	t.places.put(all...)
}

// reuse lets addresses that the pool has lost be given again.
func (t *Table) reuse(addresses []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places.remove(addresses)
	t.pool.reuse(addresses)
}

func (e *entry) host() nat44.Host {
	return nat44.Host{IPv4: address4(e.ipv4), IPv6: netip.AddrFrom16(e.ipv6)}
}
