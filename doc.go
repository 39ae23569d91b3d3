// Package tnat64d is the root of a 464XLAT CLAT for Linux. There is no code
// here; start with README.md, or with the packages in the order of imports:
//
//	siit        packets: RFC 7915, 6052 and 7757 as pure functions over bytes
//	tun         the TUN device and its queues, super-packets unsplit
//	pref64      finding the network's NAT64 prefix
//	clat        what the host should look like, and making it so;
//	            datapath/engine pumps packets, datapath/steer is the BPF that brings them
//	cmd         the daemon, its companion for people, and the lab
package tnat64d
