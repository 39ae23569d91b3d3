// Command tnat64-lab is a whole 464XLAT network on one machine: an IPv6-only
// laptop, a router with NAT64, and an IPv4-only internet, in network
// namespaces that vanish with it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"tnat64d/internal/lab"
	"tnat64d/internal/say"
)

const usage = `Usage: tnat64-lab demo  [flags]    show what tnat64d does, in a dozen lines
       tnat64-lab shell [flags]    open a shell on the IPv6-only laptop, tnat64d running

Both build a network of four network namespaces on this machine (so root is
needed), start tnat64d on the laptop, and remove everything at the end. They
change nothing else on this machine.

  -network KIND    the laptop's link, and how it gets its IPv6 address:
                   slaac (default), bridge, bond, vlan, ppp, noarp, raw-ip: from router
                   advertisements;
                   dhcpv6-only: one address, leased by dnsmasq to dhcpcd;
                   delegated: one address and a delegated /56, leased by kea to dhcpcd;
                   cloud: one address, configured manually; the prefix from DNS64 only;
                   static: as cloud, with a /64;
                   wireguard, gre: as static, through a tunnel
  -pref64 PREFIX   the network's NAT64 prefix, of length 32, 40, 48, 56, 64 or 96,
                   or just /LENGTH for an example prefix (default 64:ff9b::/96)
  -mtu N           MTU of the link between laptop and router (default 1500, at least 1280)
  -mtu-isp N       MTU of the link beyond the NAT64 (default 1500)
  -native-ipv4     the laptop has native IPv4 too, so that tnat64d stands by
  -tnat64d PATH    the daemon to run (default: the one beside tnat64-lab, then $PATH)
  -built-in        use the small IPv4-only programs built into tnat64-lab even
                   where curl, ping and traceroute are installed

Exit status: 0 if every step succeeded, 2 for a wrong command line, 1 otherwise;
shell exits with the status of the shell.
`

func main() {
	// SIGPIPE too: `tnat64-lab demo | head -1` must clean up as well.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is main without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == builtInCommand {
		return reportError(builtIn(ctx, args[1:], stdout), stderr)
	}
	cfg, err := parse(args)
	if errors.Is(err, errHelp) {
		io.WriteString(stdout, usage)
		return 0
	}
	if err != nil {
		return say.Fail(stderr, "tnat64-lab", say.Hint(say.Usage(err), "tnat64-lab -h lists the commands and flags"))
	}
	if cfg.tnat64d, err = findDaemon(cfg.tnat64d); err == nil {
		switch cfg.command {
		case "demo":
			err = demo(ctx, cfg, stdout)
		case "shell":
			err = shell(ctx, cfg, stdout)
		}
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, errCleanUp) {
		err = errors.New("interrupted; everything has been cleaned up")
	}
	return reportError(err, stderr)
}

var errCleanUp = errors.New("clean up")

// takeDown ends the daemon, if there is one, in its own way, then the lab, and
// adds to *err what went wrong about it.
func takeDown(l *lab.Lab, d *lab.Daemon, err *error) {
	if d != nil {
		d.Stop() // a failure matters only where it is the subject, at the demo's end
	}
	if closeErr := l.Close(); closeErr != nil {
		*err = errors.Join(*err, say.Hint(fmt.Errorf("%w: %w", errCleanUp, closeErr), "the next start of tnat64-lab removes what is left"))
	}
}

// reportError says what went wrong, and how to go on if that is known.
func reportError(err error, stderr io.Writer) int {
	if err == nil {
		return say.StatusOK
	}
	if status, ok := errors.AsType[shellStatus](err); ok {
		return int(status)
	}
	if hint := hintFor(err); hint != "" {
		err = say.Hint(err, "%s", hint)
	}
	return say.Fail(stderr, "tnat64-lab", err)
}

// hintFor returns what to do about an error of the system, or nothing if
// nobody knows or it has been said.
func hintFor(err error) string {
	if _, ok := errors.AsType[*say.Failure](err); ok {
		return ""
	}
	if errors.Is(err, fs.ErrPermission) {
		return "network namespaces need root; run it with sudo"
	}
	file, ok := errors.AsType[*fs.PathError](err)
	switch {
	case !ok || !errors.Is(err, fs.ErrNotExist):
		return ""
	case file.Path == "/dev/net/tun":
		return "the kernel's TUN driver is needed; try: modprobe tun"
	case strings.HasPrefix(file.Path, "/proc/sys/net/ipv6"):
		return "the kernel was started without IPv6 (ipv6.disable=1)"
	}
	return ""
}
