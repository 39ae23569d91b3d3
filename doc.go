// Package tnat64d is the root of a 464XLAT CLAT for Linux, of a NAT64 gateway, and
// of a program that runs one command through NAT64. There is no code here; start
// with README.md, or with the packages in the order of imports:
//
//	siit        packets: RFC 7915, 6052 and 7757 as pure functions over bytes
//	tun         the TUN device and its queues, super-packets unsplit
//	pref64      discovery of the network's NAT64 prefix
//	datapath    a translator's packet path: the user engine (engine), and steering by
//	            BPF with the kernel engine (steer) or by nftables (steernft)
//	clat        what the host should look like (plan), and making it so (host)
//	plat        the gateway: address maps, NAT44, DNS64, router advertisements
//	shim        one program through NAT64, without root
//	internal    shared packages, and the test network (lab)
//	cmd         tnat64d, tnat64, tnat64-gateway, tnat64ctl and tnat64-lab
package tnat64d
