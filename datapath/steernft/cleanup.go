package steernft

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// CleanUp removes the tables that a killed predecessor left in the network
// namespace of the calling thread: those without an owner, before Linux 5.12.
// No other daemon of ours may run there. A kernel without nf_tables has none.
func CleanUp() error {
	c, err := dial()
	if err != nil {
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			return nil
		}
		return err
	}
	defer c.Close()
	var errs []error
	for _, family := range []uint8{unix.NFPROTO_NETDEV, unix.NFPROTO_INET} {
		var names []string
		err := c.get(message{"list the tables", unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, family, nil}, func(b []byte) {
			each(b, func(typ uint16, data []byte) {
				if name := unix.ByteSliceToString(data); typ == unix.NFTA_TABLE_NAME && strings.HasPrefix(name, prefix) {
					names = append(names, name)
				}
			})
		})
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			continue // no nf_tables, or not this family
		}
		errs = append(errs, err)
		for _, name := range names {
			errs = append(errs, (&table{conn: c, family: family, name: name}).remove())
		}
	}
	return errors.Join(errs...)
}
