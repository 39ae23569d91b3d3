package steernft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// prefix begins the name of every table of this package, by which [CleanUp]
// finds those that a killed predecessor could not own.
const prefix = "tnat64d-"

// table is a table of ours in one family, and the messages that change it.
type table struct {
	conn   *conn
	family uint8
	name   string
	owned  bool // the kernel removes it with the socket

	setID uint32
	uses  map[string]int // of each chain: its rules and those that go to it
}

// maxNames is how many names are tried for a table.
const maxNames = 8

// create makes the table with its chains and counters, all empty. A table of
// that name from a predecessor is replaced. If another process owns it, the name
// gets a number.
func (t *table) create(counts []Count, chains ...chain) error {
	name := t.name
	err := t.tryCreate(tableOwner, counts, chains)
	for n := 2; n <= maxNames && errors.Is(err, unix.EPERM); n++ {
		t.name = fmt.Sprintf("%s-%d", name, n)
		err = t.tryCreate(tableOwner, counts, chains)
	}
	switch {
	case err == nil:
		t.owned = true
		return nil
	// Before Linux 5.12 there is no owner; the next start cleans up.
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return t.tryCreate(0, counts, chains)
	}
	return err
}

func (t *table) tryCreate(flags uint32, counts []Count, chains []chain) error {
	name := attributes(nil).text(unix.NFTA_TABLE_NAME, t.name)
	ms := []message{
		// Delete succeeds only after an add, which does nothing to one that is there.
		{"add the table", unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, t.family, name},
		{"replace the table", unix.NFT_MSG_DELTABLE, 0, t.family, name},
		{"add the table", unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE | unix.NLM_F_EXCL, t.family, name.number(unix.NFTA_TABLE_FLAGS, flags)},
	}
	for _, c := range counts {
		ms = append(ms, message{"add counter " + c.String(), unix.NFT_MSG_NEWOBJ, unix.NLM_F_CREATE | unix.NLM_F_EXCL, t.family,
			attributes(nil).text(unix.NFTA_OBJ_TABLE, t.name).text(unix.NFTA_OBJ_NAME, c.String()).
				number(unix.NFTA_OBJ_TYPE, objCounter).nest(unix.NFTA_OBJ_DATA, nil)})
	}
	for _, c := range chains {
		ms = append(ms, message{"add chain " + c.name, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE | unix.NLM_F_EXCL, t.family, c.attributes(t.name)})
	}
	if err := t.conn.commit(ms); err != nil {
		return err
	}
	t.uses = map[string]int{}
	for _, c := range chains {
		t.uses[c.name] = 0
	}
	return nil
}

// chain is a list of rules. One without a hook is for others to go to.
type chain struct {
	name     string
	hooked   bool
	hook     uint32
	priority int32
	device   string // of the netdev family
}

func (c chain) attributes(table string) attributes {
	a := attributes(nil).text(unix.NFTA_CHAIN_TABLE, table).text(unix.NFTA_CHAIN_NAME, c.name)
	if !c.hooked {
		return a
	}
	h := attributes(nil).number(unix.NFTA_HOOK_HOOKNUM, c.hook).number(unix.NFTA_HOOK_PRIORITY, uint32(c.priority))
	if c.device != "" {
		h = h.text(unix.NFTA_HOOK_DEV, c.device)
	}
	return a.nest(unix.NFTA_CHAIN_HOOK, h).text(unix.NFTA_CHAIN_TYPE, "filter")
}

// set is an anonymous set of IPv6 address ranges, or a map of them to
// addresses. It lives as long as the rules that refer to it.
type set struct {
	name  string
	id    uint32
	isMap bool
	spans []span
}

func (t *table) newSet(spans []span, isMap bool) set {
	t.setID++
	return set{"__set%d", t.setID, isMap, spans}
}

// elementsPerMessage keeps the list within the 64 KiB of an attribute.
const elementsPerMessage = 400

func (s set) messages(t *table) []message {
	flags := uint32(unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT | unix.NFT_SET_INTERVAL)
	a := attributes(nil).text(unix.NFTA_SET_TABLE, t.name).text(unix.NFTA_SET_NAME, s.name).number(unix.NFTA_SET_ID, s.id).
		number(unix.NFTA_SET_KEY_TYPE, typeAddress).number(unix.NFTA_SET_KEY_LEN, 16)
	if s.isMap {
		flags |= unix.NFT_SET_MAP
		a = a.number(unix.NFTA_SET_DATA_TYPE, typeAddress).number(unix.NFTA_SET_DATA_LEN, 16)
	}
	ms := []message{{"add a set", unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, t.family, a.number(unix.NFTA_SET_FLAGS, flags)}}
	for rest := s.spans; len(rest) > 0; {
		n := min(len(rest), elementsPerMessage)
		var list attributes
		for _, p := range rest[:n] {
			first := p.first.As16()
			e := attributes(nil).value(unix.NFTA_SET_ELEM_KEY, first[:])
			if s.isMap {
				via := p.hop.Via.As16()
				e = e.value(unix.NFTA_SET_ELEM_DATA, via[:])
			}
			list = list.nest(unix.NFTA_LIST_ELEM, e)
			if end := p.last.Next(); end.IsValid() {
				end := end.As16()
				list = list.nest(unix.NFTA_LIST_ELEM, attributes(nil).value(unix.NFTA_SET_ELEM_KEY, end[:]).
					number(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END))
			}
		}
		ms = append(ms, message{"fill a set", unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, t.family,
			attributes(nil).text(unix.NFTA_SET_ELEM_LIST_TABLE, t.name).text(unix.NFTA_SET_ELEM_LIST_SET, s.name).
				number(unix.NFTA_SET_ELEM_LIST_SET_ID, s.id).nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, list)})
		rest = rest[n:]
	}
	return ms
}

// ruleset is what the chains of a table contain.
type ruleset struct {
	table  *table // that names the sets
	sets   []set
	chains []string // in the order in which they are filled
	rules  map[string][]attributes
	gotos  map[string]int // by the chain that they lead to
}

func newRuleset(t *table, chains ...string) *ruleset {
	return &ruleset{table: t, chains: chains, rules: map[string][]attributes{}, gotos: map[string]int{}}
}

// newSet adds a set, or a map, of spans.
func (r *ruleset) newSet(spans []span, isMap bool) set {
	s := r.table.newSet(spans, isMap)
	r.sets = append(r.sets, s)
	return s
}

func (r *ruleset) add(chain string, parts ...any) {
	r.rules[chain] = append(r.rules[chain], rule(parts...))
}

// addGoto adds a rule that goes on in another chain.
func (r *ruleset) addGoto(chain, next string, parts ...any) {
	r.gotos[next]++
	r.add(chain, append(parts, verdict(unix.NFT_GOTO, next))...)
}

// replace makes r the contents of the chains in one step. Counters keep their
// counts.
func (t *table) replace(r *ruleset) error {
	var ms []message
	for _, name := range r.chains {
		ms = append(ms, message{"empty chain " + name, unix.NFT_MSG_DELRULE, 0, t.family,
			attributes(nil).text(unix.NFTA_RULE_TABLE, t.name).text(unix.NFTA_RULE_CHAIN, name)})
	}
	for _, s := range r.sets {
		ms = append(ms, s.messages(t)...)
	}
	for _, name := range r.chains {
		for i, rule := range r.rules[name] {
			ms = append(ms, message{fmt.Sprintf("add rule %d of chain %s", i+1, name), unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE | unix.NLM_F_APPEND, t.family,
				attributes(nil).text(unix.NFTA_RULE_TABLE, t.name).text(unix.NFTA_RULE_CHAIN, name).nest(unix.NFTA_RULE_EXPRESSIONS, attributes(rule))})
		}
	}
	if err := t.conn.commit(ms); err != nil {
		return err
	}
	for _, name := range r.chains {
		t.uses[name] = len(r.rules[name]) + r.gotos[name]
	}
	return nil
}

// intact reports whether every chain has as many rules as were put there. What
// cannot be found out is taken for granted.
func (t *table) intact() bool {
	for name, want := range t.uses {
		got := -1
		err := t.conn.get(message{"get chain " + name, unix.NFT_MSG_GETCHAIN, 0, t.family,
			attributes(nil).text(unix.NFTA_CHAIN_TABLE, t.name).text(unix.NFTA_CHAIN_NAME, name)}, func(b []byte) {
			each(b, func(typ uint16, data []byte) {
				if typ == unix.NFTA_CHAIN_USE && len(data) >= 4 {
					got = int(binary.BigEndian.Uint32(data))
				}
			})
		})
		if errors.Is(err, unix.ENOENT) || err == nil && got >= 0 && got != want {
			return false
		}
	}
	return true
}

// counters reads the counters of the table.
func (t *table) counters() (cs [numCounts]uint64, err error) {
	err = t.conn.get(message{"read the counters", unix.NFT_MSG_GETOBJ, unix.NLM_F_DUMP, t.family,
		attributes(nil).text(unix.NFTA_OBJ_TABLE, t.name).number(unix.NFTA_OBJ_TYPE, objCounter)}, func(b []byte) {
		var of, name string
		var packets uint64
		each(b, func(typ uint16, data []byte) {
			switch typ {
			case unix.NFTA_OBJ_TABLE:
				of = unix.ByteSliceToString(data)
			case unix.NFTA_OBJ_NAME:
				name = unix.ByteSliceToString(data)
			case unix.NFTA_OBJ_DATA:
				each(data, func(typ uint16, data []byte) {
					if typ == unix.NFTA_COUNTER_PACKETS && len(data) >= 8 {
						packets = binary.BigEndian.Uint64(data)
					}
				})
			}
		})
		for c := range numCounts {
			if of == t.name && name == c.String() {
				cs[c] += packets
			}
		}
	})
	return cs, err
}

// remove deletes the table; one that is gone already is no error.
func (t *table) remove() error {
	err := t.conn.commit([]message{{"delete the table " + t.name, unix.NFT_MSG_DELTABLE, 0, t.family, attributes(nil).text(unix.NFTA_TABLE_NAME, t.name)}})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
