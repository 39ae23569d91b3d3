package lab

import "maps"

// NetworkManagerProfile is the connection of the uplink on a machine of
// [NetworkManager].
const NetworkManagerProfile = "wired"

// StartBus is the beginning of [MachineOptions.Start] on a machine with D-Bus.
const StartBus = `dbus-uuidgen --ensure
dbus-daemon --system --nofork --nopidfile &
while ! [ -S /run/dbus/system_bus_socket ]; do sleep 0.1; done
`

// NetworkManager returns files and start of a machine on which NetworkManager has the
// uplink and its own CLAT, which is on by its configuration and not by the
// connection's. It logs from that level on. more are further files.
func NetworkManager(level string, more map[string]string) MachineOptions {
	files := map[string]string{
		"/etc/NetworkManager/conf.d/lab.conf": `[main]
plugins=keyfile
auth-polkit=root-only
dhcp=internal
dns=none
no-auto-default=*
[connection]
ipv4.clat=1
ipv4.dhcp-timeout=2147483647
`,
		"/etc/NetworkManager/system-connections/" + NetworkManagerProfile + ".nmconnection": "[connection]\nid=" + NetworkManagerProfile +
			"\ntype=ethernet\ninterface-name=" + Uplink + "\n[ipv4]\nmethod=auto\n[ipv6]\nmethod=auto\n",
	}
	maps.Copy(files, more)
	return MachineOptions{Files: files, Start: StartBus + "NetworkManager --debug --log-level=" + level + " &"}
}
