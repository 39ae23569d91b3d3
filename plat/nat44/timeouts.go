package nat44

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// timeouts are those of RFC 6146 section 4 in seconds: TCP_EST, TCP_TRANS,
// UDP_MIN before an answer, UDP_DEFAULT, ICMP_DEFAULT.
var timeouts = []struct {
	name     string
	protocol uint8
	policy   expr.CtStatePolicyTimeout
}{
	{"tcp", unix.IPPROTO_TCP, expr.CtStatePolicyTimeout{
		expr.CtStateTCPSYNSENT: 240, expr.CtStateTCPSYNRECV: 240, expr.CtStateTCPESTABLISHED: 7440,
		expr.CtStateTCPFINWAIT: 240, expr.CtStateTCPCLOSEWAIT: 240, expr.CtStateTCPLASTACK: 240, expr.CtStateTCPTIMEWAIT: 240,
		expr.CtStateTCPCLOSE: 10, expr.CtStateTCPSYNSENT2: 240, expr.CtStateTCPRETRANS: 300, expr.CtStateTCPUNACK: 300,
	}},
	{"udp", unix.IPPROTO_UDP, expr.CtStatePolicyTimeout{expr.CtStateUDPUNREPLIED: 120, expr.CtStateUDPREPLIED: 300}},
	// The only timeout of this protocol has the number 0, as TCP's first. The
	// nftables package adds others of TCP, which the kernel ignores.
	{"icmp", unix.IPPROTO_ICMP, expr.CtStatePolicyTimeout{0: 60}},
}

// timeouts gives every connection through the translator the timeouts of RFC
// 6146, whichever side begins it.
func (r *rules) timeouts(chain *nftables.Chain) {
	for _, p := range timeouts {
		r.conn.AddObj(&nftables.NamedObj{
			Table: chain.Table, Name: p.name, Type: nftables.ObjTypeCtTimeout,
			Obj: &expr.CtTimeout{L3Proto: unix.NFPROTO_IPV4, L4Proto: p.protocol, Policy: p.policy},
		})
		for _, way := range [][]expr.Any{comesBy(r.config.TUN), leavesBy(r.config.TUN)} {
			r.rule(chain, way, protocol(p.protocol), isNew(), []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCtTimeout), Name: p.name}})
		}
	}
}
