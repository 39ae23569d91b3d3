package lab

import (
	"fmt"
	"math"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// filters are what a router does to packets in secret. They are BPF programs
// at the tc hooks, as routes, rules and nftables either answer with an ICMP
// error or take a super-packet for one large packet.
type filters struct {
	network    *Network
	mu         sync.Mutex
	lanLimit   int // bytes of the largest packet on the laptop's link; 0: no limit
	wanLimit   int // and on the link router - isp
	gone       bool
	ndBindings int       // addresses that the access point lets through; 0: all
	bindings   *ebpf.Map // those it has seen in DAD
}

// The tc filters of an interface, in order of priority.
const (
	filterSize = 1 + iota
	filterBindings
)

// Verdicts of linux/pkt_cls.h.
const (
	verdictNext = -1 // TC_ACT_UNSPEC: ask the next filter
	verdictDrop = 2  // TC_ACT_SHOT
)

// Offsets in struct __sk_buff of linux/bpf.h.
const (
	skbLen      = 0
	skbProtocol = 16
	skbGSOSize  = 176
)

const ethernetHeader = 14 // bytes before the IP header at both tc hooks

// networkOrder is a 16-bit number as the host reads it from network order.
func networkOrder(v uint16) int32 { return int32(v<<8 | v>>8) }

// dropLargerThan returns a program that drops what is longer than limit bytes
// with its IP header. Of a super-packet the length of its segments counts.
func dropLargerThan(limit int) asm.Instructions {
	const ctx, length, gso, offset = asm.R6, asm.R7, asm.R8, asm.R9
	return asm.Instructions{
		asm.Mov.Reg(ctx, asm.R1),
		asm.LoadMem(length, ctx, skbLen, asm.Word),
		asm.LoadMem(gso, ctx, skbGSOSize, asm.Word),
		asm.JEq.Imm(gso, 0, "compare"),
		// The segment is the payload, and the headers as far as they go.
		asm.LoadMem(asm.R1, ctx, skbProtocol, asm.Word),
		asm.Mov.Imm(offset, ethernetHeader+40),
		asm.JNE.Imm(asm.R1, networkOrder(unix.ETH_P_IP), "transport"),
		asm.Mov.Imm(offset, ethernetHeader+20),
		// TCP's data offset is in the upper half of byte 12.
		asm.Mov.Reg(asm.R1, ctx).WithSymbol("transport"),
		asm.Mov.Reg(asm.R2, offset),
		asm.Add.Imm(asm.R2, 12),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -8),
		asm.Mov.Imm(asm.R4, 1),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, -8, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.LSh.Imm(asm.R1, 2),
		asm.Mov.Reg(length, gso),
		asm.Add.Reg(length, offset),
		asm.Add.Reg(length, asm.R1),
		asm.JGT.Imm(length, int32(limit)+ethernetHeader, "drop").WithSymbol("compare"),
		asm.Mov.Imm(asm.R0, verdictNext).WithSymbol("pass"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, verdictDrop).WithSymbol("drop"),
		asm.Return(),
	}
}

// onlyBound returns the program of an access point that forwards packets only
// from IPv6 addresses for which it has seen duplicate address detection (RFC
// 6620 section 3: first come, first served), and knows as many as bindings can
// hold. Link-local sources pass.
func onlyBound(bindings *ebpf.Map) asm.Instructions {
	const (
		ctx  = asm.R6
		addr = -16 // on the stack
		b    = -24
	)
	load := func(offset, at, n int32) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R1, ctx),
			asm.Mov.Imm(asm.R2, ethernetHeader+offset),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, at),
			asm.Mov.Imm(asm.R4, n),
			asm.FnSkbLoadBytes.Call(),
			asm.JNE.Imm(asm.R0, 0, "pass"),
		}
	}
	linkLocal := asm.Instructions{ // fe80::/10 passes
		asm.LoadMem(asm.R1, asm.RFP, addr, asm.Half),
		asm.And.Imm(asm.R1, networkOrder(0xffc0)),
		asm.JEq.Imm(asm.R1, networkOrder(0xfe80), "pass"),
	}
	key := asm.Instructions{
		asm.LoadMapPtr(asm.R1, bindings.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, addr),
	}
	var p asm.Instructions
	add := func(more ...asm.Instruction) { p = append(p, more...) }
	add(
		asm.Mov.Reg(ctx, asm.R1),
		asm.LoadMem(asm.R1, ctx, skbProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, networkOrder(unix.ETH_P_IPV6), "pass"),
	)
	add(load(8, addr, 16)...) // source
	add(linkLocal...)
	add(
		asm.LoadMem(asm.R1, asm.RFP, addr, asm.DWord),
		asm.LoadMem(asm.R2, asm.RFP, addr+8, asm.DWord),
		asm.Or.Reg(asm.R1, asm.R2),
		asm.JEq.Imm(asm.R1, 0, "unspecified"),
	)
	add(key...)
	add(
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.Ja.Label("pass"),
		asm.Mov.Imm(asm.R0, verdictDrop).WithSymbol("drop"),
		asm.Return(),
	)
	unspecified := load(6, b, 1) // next header
	unspecified[0] = unspecified[0].WithSymbol("unspecified")
	add(unspecified...)
	add(
		asm.LoadMem(asm.R1, asm.RFP, b, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_ICMPV6, "pass"),
	)
	add(load(40, b, 1)...) // type
	add(
		asm.LoadMem(asm.R1, asm.RFP, b, asm.Byte),
		asm.JNE.Imm(asm.R1, 135, "pass"), // Neighbor Solicitation
	)
	add(load(48, addr, 16)...) // its target
	add(linkLocal...)
	add(key...)
	add(
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, b),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(), // fails if the map is full
		asm.Mov.Imm(asm.R0, verdictNext).WithSymbol("pass"),
		asm.Return(),
	)
	return p
}

// attachFilters installs what is in force on the router's interfaces. A link
// that moves between namespaces loses its filters.
func (f *filters) attachFilters() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := func(bytes int) asm.Instructions {
		switch {
		case f.gone:
			return dropLargerThan(0)
		case bytes == 0:
			return nil
		}
		return dropLargerThan(bytes)
	}
	var bound asm.Instructions
	if f.ndBindings > 0 {
		if f.bindings == nil {
			var err error
			f.bindings, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, ValueSize: 1, MaxEntries: uint32(f.ndBindings)})
			if err != nil {
				return fmt.Errorf("access point of %s: %w", f.network.Name, err)
			}
		}
		bound = onlyBound(f.bindings)
	}
	router := f.network.Router
	const in, out = netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS
	return steps(
		func() error { return router.filter(lan, in, filterSize, limit(f.lanLimit)) },
		func() error { return router.filter(lan, out, filterSize, limit(f.lanLimit)) },
		func() error { return router.filter(lan, in, filterBindings, bound) },
		func() error { return router.filter(wan, in, filterSize, limitWAN(f.wanLimit)) },
		func() error { return router.filter(wan, out, filterSize, limitWAN(f.wanLimit)) },
	)
}

func limitWAN(bytes int) asm.Instructions {
	if bytes == 0 {
		return nil
	}
	return dropLargerThan(bytes)
}

// SetBlackHole makes packets longer than these many bytes vanish without
// Packet Too Big: on the laptop's link, which is IPv6, and on the link beyond
// the PLAT, which is IPv4; both ways. 0 lets everything pass.
func (f *filters) SetBlackHole(lan6, wan4 int) error {
	f.mu.Lock()
	f.lanLimit, f.wanLimit = lan6, wan4
	f.mu.Unlock()
	return f.refilter()
}

// Vanish makes the router disappear, or come back: it neither advertises nor
// forwards nor answers, and nobody is told; the laptop keeps its carrier.
func (f *filters) Vanish(on bool) error {
	f.mu.Lock()
	f.gone = on
	f.mu.Unlock()
	return f.refilter()
}

// refilter applies a change at once, if the laptop is there.
func (f *filters) refilter() error {
	link := &f.network.attachment
	link.attaching.Lock()
	defer link.attaching.Unlock()
	if link.Attached() == "" {
		return nil
	}
	return f.attachFilters()
}

// filter installs a program at an interface's tc hook, or removes it if there
// are no instructions. Priorities are those of filterSize and the like.
func (h *interfaces) filter(ifname string, parent uint32, priority uint16, program asm.Instructions) error {
	link, err := h.Netlink.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("filter on %s:%s: %w", h.Name, ifname, err)
	}
	attrs := netlink.FilterAttrs{
		LinkIndex: link.Attrs().Index, Parent: parent, Handle: 1, Priority: priority, Protocol: unix.ETH_P_ALL,
	}
	if program == nil {
		// Not there is as good: it is only removed where there may be one.
		h.Netlink.FilterDel(&netlink.BpfFilter{FilterAttrs: attrs})
		return nil
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: program, License: "Apache-2.0"})
	if err != nil {
		return fmt.Errorf("filter on %s:%s: %w", h.Name, ifname, err)
	}
	defer p.Close() // the filter holds it
	err = steps(
		func() error {
			return h.Netlink.QdiscReplace(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(math.MaxUint16, 0), Parent: netlink.HANDLE_CLSACT,
			}})
		},
		func() error {
			return h.Netlink.FilterReplace(&netlink.BpfFilter{FilterAttrs: attrs, Fd: p.FD(), Name: "lab", DirectAction: true})
		},
	)
	if err != nil {
		return fmt.Errorf("filter on %s:%s: %w", h.Name, ifname, err)
	}
	return nil
}
