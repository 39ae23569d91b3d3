package main

import (
	"fmt"
	"strconv"
)

// maps is the series of a gateway's address maps.
const maps = "maps"

// gatewayLoads are the loads of contestants on the router.
func gatewayLoads(rate int, quick bool) []load {
	var all []load
	add := func(l load) load {
		l.ID, l.Router, l.Setup.MTU = "gateway/"+l.ID, true, ethernet
		if l.Down {
			l.Args = append(l.Args, "down=1")
		}
		all = append(all, l)
		return l
	}
	const small = "size=64"
	add(load{ID: "tcp-up", Title: "TCP, 4 streams up", Unit: bits, Args: []string{"stream", "streams=4"}})
	add(load{ID: "tcp-down", Title: "TCP, 4 streams down", Unit: bits, Down: true, Args: []string{"stream", "streams=4"}})
	add(load{ID: "udp-64-up", Title: "UDP, 64 bytes up", Unit: datagrams, Args: []string{"datagram", small}})
	add(load{ID: "udp-64-down", Title: "UDP, 64 bytes down", Unit: datagrams, Down: true, Args: []string{"datagram", small}})
	add(load{ID: "udp-64-fixed", Title: fmt.Sprintf("UDP, 64 bytes up, %s/s offered", thousands(rate)), Unit: datagrams, Fixed: true,
		Args: []string{"datagram", small, "rate=" + strconv.Itoa(rate)}})
	add(load{ID: "connect", Title: "TCP connections, one after the other", Unit: connections, Args: []string{"connect"}})
	for _, n := range fewer(quick, 0, 100, 100000) {
		series := func(id, title string, u unit, args ...string) {
			add(load{ID: fmt.Sprintf("maps-%d-%s", n, id), Title: fmt.Sprintf("%s, %s maps", title, thousands(n)), Unit: u, Args: args,
				Series: maps, X: float64(n), Setup: setup{Maps: n}, only: []string{"native", "gateway-user", "gateway-kernel", "before-gateway-user", "before-gateway-kernel"}})
		}
		series("udp", "UDP, 64 bytes up", datagrams, "datagram", small)
		series("connect", "TCP connections", connections, "connect")
	}
	return all
}
