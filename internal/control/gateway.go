package control

import "net/netip"

// Gateway is the state of tnat64-gateway.
type Gateway struct {
	Up      bool         `json:"up"`
	TUN     string       `json:"tun"`
	Prefix  netip.Prefix `json:"prefix"`
	Pool    netip.Prefix `json:"pool"`
	NAT44   string       `json:"nat44"` // masquerade, pool, none
	Inside  []string     `json:"inside"`
	Outside []string     `json:"outside"`
	MTU6    int          `json:"mtu6"` // bytes, of the inside
	MTU4    int          `json:"mtu4"` // of the outside

	Engine    string `json:"engine"`               // kernel (with user space behind it) or user
	EngineWhy string `json:"engine_why,omitempty"` // why not kernel
	Attached  string `json:"attached,omitempty"`   // by what the kernel engine is: tcx, or clsact and why
	Queues    int    `json:"queues"`
	Offloads  string `json:"offloads"`

	Maps      Maps       `json:"maps"`
	Conntrack *Conntrack `json:"conntrack,omitempty"` // nil: the kernel tracks no connections
	Traffic   []Traffic  `json:"traffic"`
	Drops     []Dropped  `json:"drops,omitempty"`
	Decline   []Dropped  `json:"declined,omitempty"` // left by the kernel engine to user space; not lost
	Errors    ICMPErrors `json:"icmp_errors"`

	DNS64     *DNS64        `json:"dns64,omitempty"`     // nil: there is none
	Advertise []Advertising `json:"advertise,omitempty"` // by interface
}

// DNS64 describes a gateway's DNS64.
type DNS64 struct {
	Listen  []netip.AddrPort `json:"listen"`
	Queries []Queries        `json:"queries"` // by outcome, the most first
	Cached  int              `json:"cached"`  // responses
}

// Queries counts DNS queries with the same outcome.
type Queries struct {
	Outcome string `json:"outcome"`
	Queries uint64 `json:"queries"`
}

// Advertising describes the router advertisements on one interface.
type Advertising struct {
	Interface     string `json:"interface"`
	Sent          uint64 `json:"sent"`
	Failed        uint64 `json:"failed"`        // could not be sent
	Solicitations uint64 `json:"solicitations"` // that came
	Others        uint64 `json:"others"`        // advertisements of other routers
	Disagreements uint64 `json:"disagreements"` // of those that contradict ours
}

// Maps describes the use of a gateway's pool.
type Maps struct {
	Static  int `json:"static"`
	Dynamic int `json:"dynamic"`
	Size    int `json:"size"` // addresses that can be given
}

// Conntrack describes the kernel's connection tracking in the gateway's network
// namespace.
type Conntrack struct {
	Entries      int    `json:"entries"`       // of the whole namespace, the gateway's connections among them
	Max          int    `json:"max"`           // net.netfilter.nf_conntrack_max; 0: no limit
	Dropped      uint64 `json:"dropped"`       // packets whose connection could not be tracked, mostly as the table was full
	EarlyDropped uint64 `json:"early_dropped"` // connections without an answer, forgotten to make room
}

// NearlyFull reports whether more than 90 % of the entries are in use. When all
// are, the kernel drops the first packet of each new connection.
func (c *Conntrack) NearlyFull() bool {
	return c != nil && c.Max > 0 && int64(c.Entries)*10 > int64(c.Max)*9
}
