package pref64

import "net/netip"

// Prefixes returns the prefixes under which addrs, the AAAA records of
// ipv4only.arpa, hold the well-known addresses, each once, in order (RFC 7050
// section 3). Without any the Reason says why; None: addrs is empty.
func Prefixes(addrs []netip.Addr) ([]netip.Prefix, Reason) {
	if len(addrs) > maxAAAA {
		addrs = addrs[:maxAAAA]
	}
	return prefixesOf(addrs)
}
