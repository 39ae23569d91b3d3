package tun

import (
	"testing"

	"github.com/vishvananda/netlink"
)

// TestOpenAt asks for an interface index that is free, and for one that another
// interface has.
func TestOpenAt(t *testing.T) {
	h := enterNetns(t)
	const free, taken = 1<<24 + 7, 1<<24 + 8
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0", Index: taken}, PeerName: "veth1"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		index int
		gets  bool
	}{{"free", free, true}, {"taken", taken, false}, {"none", 0, false}} {
		d, err := OpenAt("clat0", 2, c.index)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if l, err := h.LinkByName("clat0"); err != nil || l.Attrs().Index != d.Index || (d.Index == c.index) != c.gets || len(d.Queues) != 2 {
			t.Errorf("%s: asked for index %d, have %d with %d queues, %v", c.name, c.index, d.Index, len(d.Queues), err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
