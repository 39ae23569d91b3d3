// Package bus asks the system's D-Bus what other programs know: the DNS
// servers of a link, whether NetworkManager runs a CLAT of its own, and when
// the machine sleeps. Without a bus all of it is absent, and nothing waits.
package bus

import _ "github.com/godbus/dbus/v5" // until the package is written
