package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"tnat64d/internal/lab"
)

// onRouter marks contestants that run on the lab's router instead of the laptop:
// a whole network reaches IPv4 by them. They carry the loads that begin with
// "gateway/", and IPv6 forwarded by the same router is what they are compared with.
type onRouter struct{}

func (onRouter) packages() []string { return []string{"nftables"} }
func (onRouter) cannot(load) string { return "" }
func (onRouter) router()            {}

// isRouter reports whether a contestant runs on the router.
func isRouter(c contestant) bool {
	_, ok := c.(interface{ router() })
	return ok
}

// gatewayPrefix is the NAT64 prefix of contestants on the router. The lab's own
// leads to the server untranslated.
var gatewayPrefix = netip.MustParsePrefix("2001:db8:6464::/96")

// gatewayTarget is the server as an IPv6-only host behind a NAT64 sees it.
func gatewayTarget() netip.Addr { return lab.Synthesize(gatewayPrefix, lab.ServerIPv4) }

// gatewayTUN is the name of the TUN of any NAT64 on the router.
const gatewayTUN = "nat64"

// noMasquerade removes the table of masquerade, whether it is there or not.
const noMasquerade = "table ip benchmark\ndelete table ip benchmark\n"

// masquerade is nftables' source NAT for contestants that have none of their own.
const masquerade = noMasquerade + `table ip benchmark {
	chain post {
		type nat hook postrouting priority srcnat
		oifname "` + lab.RouterOutside + `" masquerade
	}
}`

// nftables applies rules on the lab's router.
func nftables(ctx context.Context, l *lab.Lab, rules string) error {
	return onHost(ctx, l.Router, rules, "nft", "-f", "-")
}

// undoTimeout is how long taking back a change of the router may take.
const undoTimeout = 10 * time.Second

// dropMasquerade undoes nftables with masquerade.
func dropMasquerade(l *lab.Lab) error {
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	return nftables(ctx, l, noMasquerade)
}

// onHost runs a program on a host of the lab.
func onHost(ctx context.Context, h *lab.Host, input, name string, args ...string) error {
	cmd := h.Command(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
