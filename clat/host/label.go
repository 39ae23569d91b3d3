package host

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// addrLabel is the label that CLAT IPv6 addresses have in the kernel's policy
// table (RFC 6724 section 2.1; ip-addrlabel(8)). No destination has it, so that
// of two deprecated addresses the kernel does not choose the CLAT's as a source
// (rule 6). A number that nobody else uses lets the next start find what a
// killed predecessor left.
const addrLabel = 646464

// Attributes of linux/if_addrlabel.h.
const (
	ifalAddress           = 1
	ifalLabel             = 2
	sizeofIfAddrLabelHead = 12 // struct ifaddrlblmsg
)

// labelAddr gives a its label. It removes the label first, because Linux 6.18
// may list it twice otherwise, even with NLM_F_REPLACE or NLM_F_EXCL.
func (k addresses) labelAddr(a netip.Addr) error {
	if err := k.unlabelAddr(a); err != nil {
		return err
	}
	return k.changeLabel(unix.RTM_NEWADDRLABEL, unix.NLM_F_CREATE|unix.NLM_F_EXCL, a)
}

// unlabelAddr removes the label of a.
func (k addresses) unlabelAddr(a netip.Addr) error {
	return unlessGone(k.changeLabel(unix.RTM_DELADDRLABEL, 0, a))
}

func (k addresses) changeLabel(msgType, flags int, a netip.Addr) error {
	req := k.request(msgType, flags|unix.NLM_F_ACK)
	req.AddData(labelHead(128))
	req.AddData(nl.NewRtAttr(ifalAddress, a.AsSlice()))
	req.AddData(nl.NewRtAttr(ifalLabel, nl.Uint32Attr(addrLabel)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if isUnsupported(err) {
		return nil // without it a deprecated address of the host may lose
	}
	return err
}

// labelHead is struct ifaddrlblmsg with that prefix length, of every link.
type labelHead uint8

func (labelHead) Len() int { return sizeofIfAddrLabelHead }

func (h labelHead) Serialize() []byte {
	b := make([]byte, sizeofIfAddrLabelHead)
	b[0], b[2] = unix.AF_INET6, byte(h)
	return b
}

// labelled lists the addresses that have our label.
func (k addresses) labelled() ([]netip.Addr, error) {
	req := k.request(unix.RTM_GETADDRLABEL, unix.NLM_F_DUMP)
	req.AddData(labelHead(0))
	msgs, err := whole(func() ([][]byte, error) { return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDRLABEL) })
	if isUnsupported(err) {
		return nil, nil
	}
	var out []netip.Addr
	for _, m := range msgs {
		if a, ok := parseLabel(m); ok {
			out = append(out, a)
		}
	}
	return out, err
}

// parseLabel returns the address of an RTM_NEWADDRLABEL message with our label.
func parseLabel(m []byte) (netip.Addr, bool) {
	if len(m) < sizeofIfAddrLabelHead || m[2] != 128 {
		return netip.Addr{}, false
	}
	attrs, err := nl.ParseRouteAttr(m[sizeofIfAddrLabelHead:])
	if err != nil {
		return netip.Addr{}, false
	}
	var (
		a    netip.Addr
		ours bool
	)
	for _, at := range attrs {
		switch {
		case at.Attr.Type == ifalAddress:
			a, _ = netip.AddrFromSlice(at.Value)
		case at.Attr.Type == ifalLabel && len(at.Value) >= 4:
			ours = binary.NativeEndian.Uint32(at.Value) == addrLabel
		}
	}
	return a, ours && a.IsValid()
}

// DelLabels removes the labels that a killed predecessor left.
func (k addresses) DelLabels() error {
	as, err := k.labelled()
	errs := []error{err}
	for _, a := range as {
		errs = append(errs, k.unlabelAddr(a))
	}
	return errors.Join(errs...)
}
