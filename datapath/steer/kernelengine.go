package steer

import (
	"errors"
	"net/netip"
)

// Engine is the kernel engine of a [Steering] or a [Gateway]. Counters and
// EngineCounters may be called at any time; the other methods by one goroutine at
// a time.
type Engine struct {
	objects *objects
	refused error // why the kernel engine cannot be used, or nil

	// What the maps in the kernel hold.
	local, denied map[netip.Prefix]bool
	eam           explicitMappings
	networks      networks

	// What is in force.
	translation *Translation // nil: user space does it all
	exits       exits
}

// exits are the ways out of the host that the programs find beside the
// translation, so that they need not look into other maps.
type exits struct {
	router bpfNextHop // family 0: none
	routes bool       // there are routes inside PREF64
	next   bool       // there is a next address
}

// KernelEngine returns nil if the kernel engine can be used, or an [*Error]
// that says why not: not asked for in Config, or refused by the kernel.
func (e *Engine) KernelEngine() error { return e.refused }

var errNotAskedFor = &Error{"use the kernel engine", errors.New("it was not asked for")}
