package plan

import "fmt"

// Reason says why a link has a CLAT, or why it has none. Its String is the one
// word for it in status.
type Reason uint8

const (
	// None is the reason of what nothing speaks against.
	None Reason = iota

	// PREF64Known is the reason of a CLAT that runs or is on its way.
	PREF64Known
	// InDAD is that of a CLAT whose address is not usable yet.
	InDAD

	// There is no uplink.
	Disabled
	NoDefaultRoute
	NoConfiguredUplink

	// The network of a CLAT is gone for the moment.
	LinkDown
	NoCarrier
	DefaultRouteLost

	// There is no need for a CLAT.
	NativeIPv4
	OtherCLAT

	// Something is missing.
	NoPREF64
	PREF64ContainsHost
	MTUTooSmall
	IPv4Taken
	IPv6InPREF64
	IPv6OfHost
	IPv6Refused
	CandidatesRefused
	DHCPv6Only
	NoFormablePrefix
	NoIPv6Address
	HostInDAD
	HostDADFailed

	// A step of the bring-up has failed. The next attempt waits.
	StepFailed
	NoResources
	SteeringRefused
	SharingRefused
	IPv6Disabled
	InterfaceNameTaken
	NotPermitted

	// NumReasons is the number of reasons.
	NumReasons
)

// String returns the kebab-case name, for example "no-pref64".
func (r Reason) String() string { return reasons[r].name }

// Explanation returns one sentence for people. [Why] has the particulars.
func (r Reason) Explanation() string { return reasons[r].explanation }

var reasons = [NumReasons]struct{ name, explanation string }{
	None:        {"none", "Nothing prevents a CLAT."},
	PREF64Known: {"pref64-known", "The network has a NAT64 prefix."},
	InDAD:       {"in-dad", "The CLAT IPv6 address is in duplicate address detection."},

	Disabled:           {"disabled", "The configuration says that no CLAT should run."},
	NoDefaultRoute:     {"no-default-route", "No link has an IPv6 default route."},
	NoConfiguredUplink: {"no-configured-uplink", "None of the configured uplinks can be used."},

	LinkDown:         {"link-down", "The uplink is down."},
	NoCarrier:        {"no-carrier", "The uplink has no carrier."},
	DefaultRouteLost: {"default-route-lost", "The uplink has lost its IPv6 default route."},

	NativeIPv4: {"native-ipv4", "The uplink has native IPv4, so no CLAT is needed."},
	OtherCLAT:  {"other-clat", "Another program runs a CLAT for the uplink."},

	NoPREF64:           {"no-pref64", "No NAT64 prefix is known for the uplink."},
	PREF64ContainsHost: {"pref64-contains-host", "The NAT64 prefix contains an address of this host."},
	MTUTooSmall:        {"mtu-too-small", "The IPv6 MTU of the uplink is below 1280 bytes (RFC 8200 section 5)."},
	IPv4Taken:          {"ipv4-taken", "The CLAT IPv4 address, or all of 192.0.0.0/29, is in use on this host."},
	IPv6InPREF64:       {"ipv6-in-pref64", "The configured CLAT IPv6 address lies in a NAT64 prefix."},
	IPv6OfHost:         {"ipv6-of-host", "This host has the configured CLAT IPv6 address for another purpose."},
	IPv6Refused:        {"ipv6-refused", "Another host has the configured CLAT IPv6 address."},
	CandidatesRefused:  {"candidates-refused", "Other hosts have all addresses that the CLAT tried."},
	DHCPv6Only:         {"dhcpv6-only", "The network assigns addresses by DHCPv6 only, so the CLAT cannot form one."},
	NoFormablePrefix:   {"no-formable-prefix", "The uplink has no on-link prefix in which the CLAT can form an address."},
	NoIPv6Address:      {"no-ipv6-address", "The uplink has no IPv6 address yet."},
	HostInDAD:          {"host-in-dad", "The host's own IPv6 address is in duplicate address detection."},
	HostDADFailed:      {"host-dad-failed", "Another host has the host's own IPv6 address."},

	StepFailed:         {"step-failed", "A step of the bring-up failed; tnat64d retries."},
	NoResources:        {"no-resources", "The kernel is short of file descriptors or memory; tnat64d retries."},
	SteeringRefused:    {"steering-refused", "The kernel refuses both BPF and nftables; tnat64d retries."},
	SharingRefused:     {"sharing-refused", "Only BPF can share the host's IPv6 address, and the kernel refuses BPF; tnat64d retries."},
	IPv6Disabled:       {"ipv6-disabled", "IPv6 is disabled on the uplink."},
	InterfaceNameTaken: {"interface-name-taken", "Another program's interface has the name of the CLAT's interface."},
	NotPermitted:       {"not-permitted", "The kernel does not permit a step of the bring-up."},
}

// Why is a reason with its particulars. The zero Why is no reason at all.
type Why struct {
	Reason Reason
	Text   string // one sentence without full stop
}

// String returns the sentence.
func (w Why) String() string { return w.Text }

// because returns a Why with a sentence.
func because(r Reason, format string, args ...any) Why {
	if len(args) == 0 {
		return Why{r, format}
	}
	return Why{r, fmt.Sprintf(format, args...)}
}

// is reports whether there is a reason.
func (w Why) is() bool { return w.Reason != None }
