package nat44

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is that of both tables, of IPv4 and of IPv6.
const tableName = "tnat64-gateway"

// Ruleset is the nftables rules that are in force. Its methods may be called at any
// time before Close.
type Ruleset struct {
	tables

	mu     sync.Mutex    // of tables.conn and what follows
	places *nftables.Set // nil: no rule asks for them
}

// New makes the tables with the rules of c.
func New(c Config) (*Ruleset, error) {
	t, err := newTables(tableName)
	if err != nil {
		return nil, err
	}
	r := &Ruleset{tables: t}
	if err := r.Set(c); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Owned reports whether the kernel removes the tables when the process dies.
func (r *Ruleset) Owned() bool { return r.owned }

// Close removes the tables. Connections that are tracked keep their addresses.
func (r *Ruleset) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.remove()
}

// CleanUp removes what a killed process has left where tables have no owner. Those
// of a running process belong to it, which is an error, unless they are a [Hold].
func CleanUp() error {
	if err := cleanUp(tableName); err != nil {
		return err
	}
	if err := cleanUp(holdName); !errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

func cleanUp(name string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		all, err := c.ListTablesOfFamily(family)
		if err != nil {
			return fmt.Errorf("nftables: list the tables: %w", err)
		}
		for _, t := range all {
			if t.Name == name {
				c.DelTable(t)
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: remove the table %s: %w", name, err)
	}
	return nil
}

// Count is the reason why packets were dropped or refused.
type Count string

const (
	NotInside        Count = "not-inside"           // dropped: IPv6 to the prefix that did not come from an inside interface
	SpoofedSource    Count = "spoofed-source"       // dropped: IPv6 to the prefix by an interface that its source is not behind
	NotOutside       Count = "not-outside"          // refused: IPv4 of the pool that would leave by another interface
	ForgedPoolSource Count = "forged-pool-source"   // dropped: IPv4 from the pool that did not come from the translator
	Unsolicited      Count = "unsolicited"          // dropped: IPv4 to the pool, or to outside addresses, that no client asked for
	Untranslated     Count = "untranslated-source"  // dropped: IPv4 that would leave with an address of the pool
	ToGateway        Count = "to-gateway"           // refused: IPv4 from a client to an address of the gateway, not to a forwarded port
	Connections      Count = "too-many-connections" // refused: a client has connections-per-client

	NetworkConnections Count = "too-many-connections-of-64" // refused: the hosts of a /64 have connections-per-64
)

// Explanation returns one sentence for people.
func (c Count) Explanation() string { return counts[c] }

// counts are all of them with their sentences.
var counts = map[Count]string{
	NotInside:        "IPv6 for the translator arrived on an interface that is not in nat64.inside.",
	SpoofedSource:    "IPv6 for the translator arrived on an interface that does not lead to its source address.",
	NotOutside:       "IPv4 from a client would have left by an interface that is not in nat64.outside.",
	ForgedPoolSource: "IPv4 with a source address of the pool arrived on an interface.",
	Unsolicited:      "IPv4 to an address of the pool, or to one of nat64.addresses that this host does not have, belonged to no connection, static map or port forward.",
	Untranslated:     "IPv4 would have left with a source address of the pool; connection tracking could not assign it to a connection.",
	ToGateway:        "A client sent to an address of the gateway, such as an outside address with port forwards, but not to a forwarded port.",
	Connections:      "A client has as many connections as nat64.connections-per-client allows.",

	NetworkConnections: "The hosts of a /64 have as many connections as nat64.connections-per-64 allows, or have opened that many TCP connections in a short time.",
}

// Counters reads the counters.
func (r *Ruleset) Counters() (map[Count]uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[Count]uint64{}
	for _, t := range []*nftables.Table{r.v4, r.v6} {
		objects, err := r.conn.GetNamedObjects(t)
		if err != nil {
			return nil, fmt.Errorf("nftables: read the counters: %w", err)
		}
		for _, o := range objects {
			if o, ok := o.(*nftables.NamedObj); ok {
				if c, ok := o.Obj.(*expr.Counter); ok {
					all[Count(o.Name)] = c.Packets
				}
			}
		}
	}
	return all, nil
}
