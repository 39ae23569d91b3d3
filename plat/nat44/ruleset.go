package nat44

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableOwner is NFT_TABLE_F_OWNER.
const tableOwner = 2

// tableName is that of both tables, of IPv4 and of IPv6.
const tableName = "tnat64-gateway"

// Ruleset is the nftables rules that are in force. Its methods may be called at any
// time before Close.
type Ruleset struct {
	v4, v6 *nftables.Table
	owned  bool

	mu     sync.Mutex // of what follows
	conn   *nftables.Conn
	places *nftables.Set // nil: no rule asks for them
}

// New makes the tables with the rules of c.
func New(c Config) (*Ruleset, error) {
	r := &Ruleset{
		v4: &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4},
		v6: &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv6},
	}
	create := func(conn *mdnetlink.Conn) error { return r.create(conn) }
	var err error
	if r.conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(create)); err != nil {
		return nil, fmt.Errorf("nftables: make the tables: %w", err)
	}
	if err := r.Set(c); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// buffers is the size of the socket's buffers in bytes: a transaction is one
// message with all elements of all sets.
const buffers = 16 << 20

// create makes the tables belong to the socket, which the nftables package has no
// call for. Before Linux 5.12 they have no owner.
func (r *Ruleset) create(conn *mdnetlink.Conn) error {
	if err := errors.Join(conn.SetWriteBuffer(buffers), conn.SetReadBuffer(buffers)); err != nil {
		return fmt.Errorf("set the buffers: %w", err)
	}
	for _, t := range []*nftables.Table{r.v4, r.v6} {
		err := newTable(conn, t, tableOwner)
		r.owned = err == nil
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
			err = newTable(conn, t, 0)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return nil
}

// newTable adds a table in a batch of its own.
func newTable(conn *mdnetlink.Conn, t *nftables.Table, flags uint32) error {
	attributes, err := mdnetlink.MarshalAttributes([]mdnetlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: []byte{byte(flags >> 24), byte(flags >> 16), byte(flags >> 8), byte(flags)}},
	})
	if err != nil {
		return err
	}
	header := func(family byte, id uint16) []byte { return []byte{family, unix.NFNETLINK_V0, byte(id >> 8), byte(id)} }
	sent, err := conn.SendMessages([]mdnetlink.Message{
		{Header: mdnetlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: mdnetlink.Request}, Data: header(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)},
		{
			Header: mdnetlink.Header{
				Type:  mdnetlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE),
				Flags: mdnetlink.Request | mdnetlink.Acknowledge | mdnetlink.Create | mdnetlink.Excl,
			},
			Data: append(header(byte(t.Family), 0), attributes...),
		},
		{Header: mdnetlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: mdnetlink.Request}, Data: header(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)},
	})
	if err != nil {
		return err
	}
	_ = sent
	_, err = conn.Receive() // the acknowledgement, or the error
	return err
}

// Owned reports whether the kernel removes the tables when the process dies.
func (r *Ruleset) Owned() bool { return r.owned }

// Close removes the tables. Connections that are tracked keep their addresses.
func (r *Ruleset) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn.DelTable(r.v4)
	r.conn.DelTable(r.v6)
	err := r.conn.Flush()
	return errors.Join(err, r.conn.CloseLasting())
}

// CleanUp removes what a killed process has left where tables have no owner. Those
// of a running process belong to it, which is an error.
func CleanUp() error {
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
			if t.Name == tableName {
				c.DelTable(t)
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: remove the table %s: %w", tableName, err)
	}
	return nil
}

// Count is what became of packets.
type Count string

const (
	NotInside        Count = "not-inside"           // dropped: IPv6 to the prefix that did not come from an inside interface
	SpoofedSource    Count = "spoofed-source"       // dropped: IPv6 to the prefix by an interface that its source is not behind
	NotOutside       Count = "not-outside"          // refused: IPv4 of the pool that would leave by another interface
	ForgedPoolSource Count = "forged-pool-source"   // dropped: IPv4 from the pool that did not come from the translator
	Unsolicited      Count = "unsolicited"          // dropped: IPv4 to the pool that no client asked for
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
	Unsolicited:      "IPv4 to an address of the pool belonged to no connection, static map or port forward.",
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
