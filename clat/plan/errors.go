package plan

import "errors"

// ErrIPv6Off is the error of adding an IPv6 address to a link on which IPv6 is
// disabled.
var ErrIPv6Off = errors.New("IPv6 is switched off on this interface")

// ErrAddrInUse is the error of an address that another node on the link has.
var ErrAddrInUse = errors.New("the address is in use by another host")
