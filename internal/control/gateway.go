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

	Engine   string `json:"engine"` // user, kernel
	Queues   int    `json:"queues"`
	Offloads string `json:"offloads"`

	Maps    Maps       `json:"maps"`
	Traffic []Traffic  `json:"traffic"`
	Drops   []Dropped  `json:"drops,omitempty"`
	Errors  ICMPErrors `json:"icmp_errors"`
}

// Maps describes the use of a gateway's pool.
type Maps struct {
	Static  int `json:"static"`
	Dynamic int `json:"dynamic"`
	Size    int `json:"size"` // addresses that can be given
}
