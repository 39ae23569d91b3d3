package clat

import (
	"slices"

	"tnat64d/clat/plan"
)

// instances are the CLATs of a Reconciler.
type instances struct{ all []*instance } // first started first

// running returns the CLATs that run or are held, without those that have ended.
func (i *instances) running() []*instance {
	i.all = slices.DeleteFunc(i.all, func(c *instance) bool { return c.ended })
	return i.all
}

// on returns the CLAT on an uplink, or nil.
func (i *instances) on(u plan.Uplink) *instance {
	for _, c := range i.running() {
		if c.uplink == u {
			return c
		}
	}
	return nil
}
