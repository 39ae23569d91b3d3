package nat44

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// perMessage is how many elements of a set one netlink message carries. A list
// of elements is one attribute, whose length has 16 bits, and the largest
// element (a range of ports) takes 40 bytes.
const perMessage = 1000

// batch collects one transaction and the first error of it.
type batch struct {
	conn *nftables.Conn
	err  error
}

func (b *batch) failed(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *batch) rule(c *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	b.conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: all})
}

// few is how many names are compared one after the other, which then takes less
// time than a set.
const few = 8

// notAny matches an interface, by a key of its name, that is none of those named,
// of which the most frequent is to be the first.
func (b *batch) notAny(t *nftables.Table, k expr.MetaKey, names ...string) []expr.Any {
	if len(names) <= few {
		return notBy(k, names)
	}
	return append(meta(k), notIn(b.interfaces(t, names))...)
}

// interfaces adds an anonymous set of interface names.
func (b *batch) interfaces(t *nftables.Table, names []string) *nftables.Set {
	s := &nftables.Set{Table: t, Anonymous: true, Constant: true, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	var all []nftables.SetElement
	for _, n := range names {
		all = append(all, nftables.SetElement{Key: name(n)})
	}
	b.failed(b.conn.AddSet(s, all))
	return s
}

// fill adds a named set with any number of elements.
func (b *batch) fill(s *nftables.Set, elements []nftables.SetElement) {
	b.failed(b.conn.AddSet(s, nil))
	for len(elements) > 0 {
		n := min(len(elements), perMessage)
		b.failed(b.conn.SetAddElements(s, elements[:n]))
		elements = elements[n:]
	}
}

// count adds a counter, if it is not there yet, and returns what counts.
func (b *batch) count(t *nftables.Table, c Count) []expr.Any {
	b.conn.AddObj(&nftables.CounterObj{Table: t, Name: string(c)})
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: string(c)}}
}

// clear empties the chains, adding those that are not there yet, and removes the
// sets but that of the places of hosts.
func (b *batch) clear(t *nftables.Table, sets []*nftables.Set) {
	for _, c := range b.chains(t) {
		b.conn.FlushChain(c)
	}
	for _, set := range sets {
		if !set.Anonymous && set.Name != places { // those go with their rule
			b.conn.DelSet(set)
		}
	}
}

// behindNAT is the priority of a chain that sees addresses after source NAT.
var behindNAT = nftables.ChainPriorityRef(*nftables.ChainPriorityNATSource + 1)

// chains adds the chains of a table and returns them by name.
func (b *batch) chains(t *nftables.Table) map[string]*nftables.Chain {
	all := map[string]*nftables.Chain{}
	add := func(name string, typ nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) {
		all[name] = b.conn.AddChain(&nftables.Chain{Name: name, Table: t, Type: typ, Hooknum: hook, Priority: priority})
	}
	add("arrival", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	add("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	if t.Family == nftables.TableFamilyIPv4 {
		add("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
		add("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
		add("destination", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
		add("source", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
		add("departure", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, behindNAT)
	}
	return all
}
