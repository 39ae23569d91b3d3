package nat44

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableOwner is NFT_TABLE_F_OWNER.
const tableOwner = 2

// tables are a table of IPv4 and one of IPv6 with the same name, which belong to a
// socket.
type tables struct {
	v4, v6 *nftables.Table
	conn   *nftables.Conn
	socket *mdnetlink.Conn // of conn
	owned  bool            // the kernel removes the tables when the socket is closed
}

// buffers is the size of the socket's buffers in bytes: a transaction is one
// message with all elements of all sets.
const buffers = 16 << 20

// newTables makes empty tables.
func newTables(name string) (tables, error) {
	t := tables{
		v4: &nftables.Table{Name: name, Family: nftables.TableFamilyIPv4},
		v6: &nftables.Table{Name: name, Family: nftables.TableFamilyIPv6},
	}
	create := func(socket *mdnetlink.Conn) error { return t.create(socket) }
	var err error
	if t.conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(create)); err != nil {
		return t, fmt.Errorf("nftables: make the tables: %w", err)
	}
	return t, nil
}

// create makes the tables belong to the socket, which the nftables package has no
// call for. Before Linux 5.12 they have no owner.
func (r *tables) create(socket *mdnetlink.Conn) error {
	r.socket = socket
	if err := errors.Join(socket.SetWriteBuffer(buffers), socket.SetReadBuffer(buffers)); err != nil {
		return fmt.Errorf("set the buffers: %w", err)
	}
	for _, t := range []*nftables.Table{r.v4, r.v6} {
		err := newTable(socket, t, tableOwner)
		r.owned = err == nil
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
			err = newTable(socket, t, 0)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return nil
}

// remove removes the tables and closes the socket.
func (r *tables) remove() error {
	r.conn.DelTable(r.v4)
	r.conn.DelTable(r.v6)
	err := r.conn.Flush()
	return errors.Join(err, r.conn.CloseLasting())
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
