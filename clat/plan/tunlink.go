package plan

import "net/netip"

// TUNLink is what the TUN interface should look like.
type TUNLink struct {
	Index    int
	Alias    string
	MTU      MTU6
	QueueLen int // packets; 0: as it is
	IPv4     netip.Addr
}

const (
	// usualQueueLen is how many packets wait in the TUN for the engine, in each
	// queue. A super-packet counts as one; 1000 is what Ethernet links have.
	usualQueueLen = 1000
	// bigQueueLen is the same where super-packets may be longer than 64 KiB: a TUN
	// takes none of these, and the kernel cuts each into up to 130 packets. It is
	// the window of a TCP connection of 11 MB.
	bigQueueLen = 8000
	// maxTUNPacket is the longest super-packet that a TUN takes: its
	// tso_max_size cannot be changed.
	maxTUNPacket = 65536
)

// queueLen returns the length of the TUN's queues for an uplink.
func queueLen(uplink Link) int {
	if uplink.SuperPacket > maxTUNPacket {
		return bigQueueLen
	}
	return usualQueueLen
}

// Matches reports whether the link is as t describes it.
func (t TUNLink) Matches(o Observed) bool {
	l, ok := o.LinkByIndex(t.Index)
	if !ok || !l.Up || l.Alias != t.Alias || l.MTU != int(t.MTU) {
		return false
	}
	a, ok := o.Addr(t.Index, t.IPv4)
	return ok && !a.NotLocal
}
