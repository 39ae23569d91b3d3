// Package tun opens the CLAT's TUN interface and moves whole super-packets
// through its queues.
//
// The kernel hands a TUN with a virtio-net header (IFF_VNET_HDR) up to 64 KiB
// of one flow at a time: a GSO or GRO super-packet, described by the [VnetHeader]
// in front of it. A translator only rewrites the one header, so a [Queue] reads
// and writes the device's file directly: one system call, one super-packet, no
// copy.
//
// A reader that has found the answer to an earlier packet within a tenth of a
// millisecond polls for the next one that long before it sleeps.
//
// The interface lives as long as its descriptors: it vanishes when the last
// queue is closed and when the process dies, however it dies. Nothing runs in
// the background and nothing wakes up while no packet comes.
//
// The package does not configure the link. Whoever does sets addresses, MTU
// and the transmit queue length: tx_queue_len is the number of packets that
// each queue's ring holds until it is read (the kernel's default is 500, and
// it resizes the rings of a running interface). What does not fit is dropped
// without a word, and a super-packet counts as one.
package tun
