package doctor

import (
	"fmt"
	"slices"
	"strings"

	"tnat64d/internal/control"
)

// otherCLAT: another program translates already, or has left a CLAT that does not.
func otherCLAT(f Findings) (Diagnosis, bool) {
	if len(f.Others) == 0 || f.Daemon.translates(f.Uplink.Name) {
		return none, false
	}
	o := f.Others[0]
	if !o.Alive {
		return none, false
	}
	if p, ok := f.plain(); ok && !p.answers() {
		return Diagnosis{
			Code:     "other-clat-broken",
			Sentence: fmt.Sprintf("%s runs a CLAT on this host (%s), but %s does not answer through it", o.Name, o.Evidence, f.Target.Name),
			Next:     o.switchOff() + ", and start tnat64d; clat.enable = \"always\" lets tnat64d run beside it",
		}, fits
	}
	return Diagnosis{
		Code: "other-clat", Healthy: true,
		Sentence: fmt.Sprintf("%s runs a CLAT on this host (%s), so no other CLAT is needed%s", o.Name, o.Evidence, o.limits()),
		Next:     "nothing to do; to use tnat64d instead, " + o.switchOff(),
	}, fits
}

// limits says what the CLAT does not carry, as the end of a sentence; empty if that
// is not known.
func (o Other) limits() string {
	switch o.Name {
	case manager:
		return "; it drops fragments, IPv4 options, UDP without a checksum and everything but TCP, UDP and ICMP"
	case "clatd", "tayga":
		return "; it drops ping in fragments and UDP without a checksum"
	}
	return ""
}

// switchOff says how to end the CLAT, as an imperative.
func (o Other) switchOff() string {
	switch o.Name {
	case manager:
		return "run nmcli connection modify NAME ipv4.clat no and nmcli connection up NAME, or for all connections put [connection-tnat64] ipv4.clat=0 in a file in /etc/NetworkManager/conf.d and run systemctl reload NetworkManager and nmcli connection up NAME"
	case "clatd":
		return "run systemctl disable --now clatd"
	}
	return "stop that CLAT"
}

// unfitHost: this host cannot run tnat64d.
func unfitHost(f Findings) (Diagnosis, bool) {
	h := f.Host
	if f.Daemon.translates(f.Uplink.Name) {
		return none, false // it does
	}
	switch {
	case h.TUN != "":
		return Diagnosis{
			Code:     "no-tun",
			Sentence: fmt.Sprintf("the network has a NAT64, but tnat64d cannot run on this host: %s", h.TUN),
			Next:     "load the driver (modprobe tun); a container needs the device /dev/net/tun",
		}, fits
	case slices.Contains(h.Missing, "CAP_NET_ADMIN"):
		return Diagnosis{
			Code:     "no-rights",
			Sentence: "the network has a NAT64, but no process here can have CAP_NET_ADMIN, which tnat64d needs",
			Next:     "give the container that capability, or run tnat64d outside it",
		}, fits
	}
	return none, false
}

// daemonTrouble: the network works, but tnat64d does not translate.
func daemonTrouble(f Findings) (Diagnosis, bool) {
	d := f.Daemon
	if !d.Running {
		return none, false
	}
	if d.Status == nil {
		if d.translates(f.Uplink.Name) {
			return none, false
		}
		return Diagnosis{
			Code:     "tnat64d-mute",
			Sentence: fmt.Sprintf("the network works and tnat64d runs, but its status cannot be read: %s", d.Error),
			Next:     "run tnat64ctl doctor as root, or as a member of the group that owns the control socket",
		}, fits
	}
	if d.Status.Enable == "never" {
		return Diagnosis{
			Code: "tnat64d-never", Healthy: true,
			Sentence: "the network has everything that a CLAT needs, but clat.enable is \"never\"",
			Next:     "set clat.enable = \"auto\"",
		}, fits
	}
	u, ok := d.uplink(f.Uplink.Name)
	why := d.Status.Why
	if ok {
		why = u.Why
	}
	switch {
	case !ok && len(d.Status.Missing) > 0:
		return Diagnosis{
			Code: "uplink-missing",
			Sentence: fmt.Sprintf("the network on %s works, but tnat64d is configured to use %s, which does not exist",
				f.Uplink.Name, strings.Join(d.Status.Missing, " and ")),
			Next: fmt.Sprintf("connect that device, or add %s to clat.uplinks", f.Uplink.Name),
		}, fits
	case !ok:
		return Diagnosis{
			Code:     "tnat64d-elsewhere",
			Sentence: fmt.Sprintf("the network on %s works, but tnat64d does not use it%s", f.Uplink.Name, because(why)),
			Next:     "check clat.uplinks in its configuration",
		}, fits
	case u.State == control.Failed:
		return Diagnosis{
			Code:     "tnat64d-failed",
			Sentence: fmt.Sprintf("the network on %s works, but tnat64d could not set up its CLAT%s", u.Name, because(why)),
			Next:     "read its log: journalctl -u tnat64d",
		}, fits
	case u.State == control.Starting:
		return Diagnosis{
			Code: "tnat64d-starting", Healthy: true,
			Sentence: fmt.Sprintf("the network on %s works, and tnat64d is starting its CLAT%s", u.Name, because(why)),
			Next:     "wait two seconds",
		}, fits
	case !d.translates(u.Name):
		return Diagnosis{
			Code:     "tnat64d-waits",
			Sentence: fmt.Sprintf("the network on %s works, but tnat64d has no CLAT there (%s)%s", u.Name, u.State, because(why)),
			Next:     "run tnat64ctl status",
		}, fits
	case u.CLAT != nil && u.CLAT.PLAT.State == control.PLATSilent && len(f.through()) == 0:
		return Diagnosis{
			Code:     "plat-silent",
			Sentence: fmt.Sprintf("tnat64d translates on %s, but the NAT64 does not answer%s", u.Name, because(u.CLAT.PLAT.Why)),
			Next:     "run tnat64ctl doctor -target HOST:PORT with a host that answers, to see where packets are lost",
		}, fits
	}
	return none, false
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
