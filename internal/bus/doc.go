// Package bus asks the system's D-Bus what other programs know: the DNS
// servers of a link (systemd-resolved, NetworkManager), whether NetworkManager
// runs a CLAT of its own, what its DHCPv4 client knows of option 108, and when
// the machine sleeps (logind).
//
// All of it is optional. A bus or a service that is not there is an error with
// the reason in words, at once; a service that hangs costs one timeout and is
// left alone for a while. Nothing is ever started for being asked, and while
// nothing happens no timer runs: a missing bus is looked for when somebody asks.
package bus
