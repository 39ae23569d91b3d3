package steer

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// linkHeader says whether packets on the link carry an Ethernet header, or
// begin with the IP header. Other kinds of link are an error.
//
// The types without header are those that the kernel's dev_is_mac_header_xmit
// lists, because bpf_redirect treats a packet by that list.
func linkHeader(link netlink.Link) (bool, error) {
	a := link.Attrs()
	switch a.EncapType {
	case "ether":
		return true, nil
	case "none", // TUN, WireGuard
		"unknown519", // ARPHRD_RAWIP: mobile broadband
		"ppp",
		"ipip", "tunnel6", "sit", "gre",
		"unknown823": // ARPHRD_IP6GRE
		return false, nil
	}
	return false, fmt.Errorf("interface %q has a link type that is neither Ethernet nor plain IP: %q", a.Name, a.EncapType)
}
