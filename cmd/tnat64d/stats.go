package main

import (
	"tnat64d/datapath"
	"tnat64d/datapath/engine"
)

// flowOf is what platWatch wants to know: packets out, and packets in that are
// answers of somebody beyond the PLAT.
func flowOf(s datapath.Stats) flow {
	errors := s.User.To4[engine.ICMPError]
	return flow{
		out: s.User.To6.Total().Packets + s.Kernel.To6.Total().Packets,
		in:  s.User.To4.Total().Packets - errors.Packets + s.Kernel.To4.Total().Packets,
	}
}
