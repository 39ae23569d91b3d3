package control

// Daemon is a program that answers on a control socket. It is the name of its systemd
// unit as well.
type Daemon string

const (
	CLATDaemon    Daemon = "tnat64d"
	GatewayDaemon Daemon = "tnat64-gateway"
)

// group is whose members may use the daemon's control socket besides root, if there
// is such a group.
func (d Daemon) group() string {
	if d == CLATDaemon {
		return "tnat64"
	}
	return string(d)
}
