// Package datapath is one translator's packet path: a TUN, the engines that
// translate what it carries, and the steering that brings packets to the TUN and
// sends what comes out.
//
//	p, err := datapath.Open(datapath.Options{TUN: "clat0", Queues: 2, ...})
//	s, err := p.Steer(datapath.SteeringConfig{Uplink: 3, Ours: ours})  // a host
//	g, err := p.AttachGateway(hosts)                                   // a router, which forwards to the TUN
//	err = p.SetMapping(siit.Config{...})                               // packets are translated from here on
//	...
//	p.Close()
//
// The user engine (package engine) translates everything. Where the kernel
// accepts BPF, the kernel engine (package steer) translates the simple packets
// before they reach user space. Where it refuses BPF, nftables (package steernft)
// does the steering.
//
// What the kernel keeps of a path dies with the process.
package datapath
