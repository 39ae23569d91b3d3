package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// load is something to measure between laptop and server.
type load struct {
	ID     string   `json:"id"`    // "tcp/1-up"
	Title  string   `json:"title"` // "TCP, 1 stream up"
	Unit   unit     `json:"unit"`
	Series string   `json:"series,omitempty"` // what grows along X, for loads that show how cost grows
	X      float64  `json:"x,omitempty"`
	Setup  setup    `json:"setup"`
	Args   []string `json:"args"` // of programs/load.c, for both ends: first the kind
	Down   bool     `json:"down,omitempty"`
	Router bool     `json:"router,omitempty"` // for contestants on the router
	Fixed  bool     `json:"fixed,omitempty"`  // offered at a fixed rate, so that loss and CPU tell, not throughput

	only []string // contestants, by id; nil: all
}

// unit is what a load counts.
type unit struct {
	Name  string  `json:"name"`  // of the value in tables: "Gbit/s"
	Scale float64 `json:"scale"` // what the value per second is divided by for that
	Cost  string  `json:"cost"`  // what CPU time is given for: "GB"
	Per   float64 `json:"per"`   // how many bytes or units that is
	Bytes bool    `json:"bytes"` // it counts bytes and shows bits
}

var (
	bits        = unit{"Gbit/s", 1e9, "GB", 1e9, true}
	datagrams   = unit{"1000/s", 1e3, "million datagrams", 1e6, false}
	roundTrips  = unit{"1000/s", 1e3, "million round trips", 1e6, false}
	connections = unit{"1000/s", 1e3, "million connections", 1e6, false}
)

// tcp reports whether the load is made of TCP connections.
func (l load) tcp() bool { return l.Args[0] != "datagram" && l.Args[0] != "round-trip-udp" }

// growth reports whether the load is there only for a series.
func (l load) growth() bool { return strings.HasPrefix(l.ID, "growth/") }

// window is how long the load is measured: at a fixed rate longer, as most of
// the time the machine is idle and what it does is to be counted in hundredths.
func (l load) window(d time.Duration) time.Duration {
	if l.Fixed {
		return 2 * d
	}
	return d
}

// latency reports whether the load measures how long an answer takes.
func (l load) latency() bool {
	return strings.HasPrefix(l.Args[0], "round-trip") || l.Args[0] == "many" || l.Args[0] == "connect"
}

const (
	ethernet = 1500
	jumbo    = 9000

	gsoSegment   = 1200 // what QUIC stacks send before they know the path's MTU
	gsoBurst     = 50 * gsoSegment
	fragmented   = 4000 // bytes in a datagram of three fragments
	manyAtOnce   = 2000
	fragmentRate = 5000
)

// The series.
const (
	packetSize = "UDP payload, bytes"
	flows      = "flows"
	eamEntries = "EAM entries"
	queues     = "queues"
)

// loads are all there are. rate is that of loads at a fixed rate.
func loads(rate int, quick bool) []load {
	var all []load
	add := func(l load) {
		if l.Setup.MTU == 0 {
			l.Setup.MTU = ethernet
		}
		if l.Down {
			l.Args = append(l.Args, "down=1")
		}
		all = append(all, l)
	}
	directions := func(f func(down bool, name string)) {
		f(false, "up")
		f(true, "down")
	}
	arg := func(key string, value int) string { return key + "=" + strconv.Itoa(value) }

	for _, mtu := range []int{ethernet, jumbo} {
		for _, streams := range []int{1, 4} {
			if mtu == jumbo && streams > 1 {
				continue // a run is to be short
			}
			directions(func(down bool, way string) {
				l := load{ID: fmt.Sprintf("tcp/%d-%s", streams, way), Title: fmt.Sprintf("TCP, %s %s", count(streams, "stream"), way),
					Unit: bits, Down: down, Args: []string{"stream", arg("streams", streams)}, Setup: setup{MTU: mtu}}
				if mtu == jumbo {
					l.ID += "-9000"
					l.Title += ", MTU 9000"
				}
				add(l)
			})
		}
	}
	for _, size := range []int{64, 1400} {
		directions(func(down bool, way string) {
			l := load{ID: fmt.Sprintf("udp/%d-%s", size, way), Title: fmt.Sprintf("UDP, %d bytes %s", size, way),
				Unit: datagrams, Down: down, Args: []string{"datagram", arg("size", size)}}
			if !down {
				l.Series, l.X = packetSize, float64(size)
			}
			add(l)
		})
		add(load{ID: fmt.Sprintf("udp/%d-fixed", size), Title: fmt.Sprintf("UDP, %d bytes up, %s/s offered", size, thousands(rate)),
			Unit: datagrams, Fixed: true, Args: []string{"datagram", arg("size", size), arg("rate", rate)}})
	}
	directions(func(down bool, way string) {
		add(load{ID: "udp/gso-" + way, Title: fmt.Sprintf("UDP with GSO, %d bytes %s", gsoSegment, way),
			Unit: datagrams, Down: down, Args: []string{"datagram", arg("size", gsoBurst), arg("gso", gsoSegment)}})
	})
	add(load{ID: "rr/tcp", Title: "TCP round trips", Unit: roundTrips, Args: []string{"round-trip-tcp"}})
	add(load{ID: "rr/udp", Title: "UDP round trips", Unit: roundTrips, Args: []string{"round-trip-udp"}})
	add(load{ID: "connect", Title: "TCP connections, one after the other", Unit: connections, Args: []string{"connect"}})
	add(load{ID: "many", Title: fmt.Sprintf("round trips on %s connections at once", thousands(manyAtOnce)),
		Unit: roundTrips, Args: []string{"many", arg("conns", manyAtOnce)}})
	directions(func(down bool, way string) {
		add(load{ID: "fragments/" + way, Title: fmt.Sprintf("fragments: UDP, %s bytes %s", thousands(fragmented), way),
			Unit: datagrams, Down: down, Args: []string{"datagram", arg("size", fragmented)}})
	})
	add(load{ID: "fragments/fixed", Title: fmt.Sprintf("fragments: UDP, %s bytes up, %s/s offered", thousands(fragmented), thousands(fragmentRate)),
		Unit: datagrams, Fixed: true, Args: []string{"datagram", arg("size", fragmented), arg("rate", fragmentRate)}})

	grow := func(series, name string, x int, l load) {
		l.ID = fmt.Sprintf("growth/%s-%d", name, x)
		l.Title = fmt.Sprintf("%s, %s %s", l.Title, thousands(x), series)
		l.Series, l.X = series, float64(x)
		add(l)
	}
	for _, size := range fewer(quick, 16, 200, 512) {
		add(load{ID: fmt.Sprintf("growth/size-%d", size), Title: fmt.Sprintf("UDP, %d bytes up", size),
			Unit: datagrams, Series: packetSize, X: float64(size), Args: []string{"datagram", arg("size", size)}})
	}
	for _, n := range fewer(quick, 1, 10, 100, 1000, 10000) {
		grow(flows, "flows", n, load{Title: "UDP, 64 bytes up", Unit: datagrams, Args: []string{"datagram", arg("size", 64), arg("flows", n)}})
	}
	// A configuration file holds a thousand entries; what more would cost is
	// measured without the network, see BenchmarkEAM.
	for _, n := range fewer(quick, 0, 10, 1000) {
		grow(eamEntries, "eam", n, load{Title: "UDP, 64 bytes up", Unit: datagrams, Args: []string{"datagram", arg("size", 64)},
			Setup: setup{MTU: ethernet, EAM: n}, only: []string{"native", "kernel", "user"}})
	}
	for _, n := range fewer(quick, 1, 2, 3, 4) {
		grow(queues, "queues", n, load{Title: "TCP, 4 streams up", Unit: bits, Args: []string{"stream", arg("streams", 4)},
			Setup: setup{MTU: ethernet, Queues: n}, only: []string{"native", "kernel", "user"}})
	}
	return append(all, gatewayLoads(rate, quick)...)
}

// fewer returns the ends of a series if it has to be quick.
func fewer(quick bool, n ...int) []int {
	if quick {
		return []int{n[0], n[len(n)-1]}
	}
	return n
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// thousands writes 10000 as "10,000".
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// audience returns the contestants that a load is for, and for others why it is not.
func (l load) audience(all []contestant) (who []contestant, why map[string]string) {
	why = make(map[string]string)
	for _, c := range all {
		if _, base := c.(native); !base && isRouter(c) != l.Router {
			continue
		}
		if l.only != nil && !slices.Contains(l.only, c.id()) {
			continue
		}
		if reason := c.cannot(l); reason != "" {
			why[c.id()] = reason
			continue
		}
		who = append(who, c)
	}
	return who, why
}
