package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// gateway is tnat64-gateway on the router with one of its engines.
type gateway struct {
	onRouter
	engine string // user or kernel
	path   string // of the program; set before anything is started
	before bool   // another version, of -before-gateway
}

// earlierGateways returns the gateways of -before-gateway, which take their turns
// beside those of today.
func earlierGateways(path string) []contestant {
	return []contestant{&gateway{engine: "user", path: path, before: true}, &gateway{engine: "kernel", path: path, before: true}}
}

func (g *gateway) id() string {
	if g.before {
		return "before-gateway-" + g.engine
	}
	return "gateway-" + g.engine
}

func (g *gateway) title() string {
	if g.before {
		return "before gateway " + g.engine
	}
	return "tnat64-gateway " + g.engine
}

func (g *gateway) about() string {
	text := "tnat64-gateway with its own masquerading and its default limits of connections; "
	if g.engine == "kernel" {
		return text + "kernel engine: simple packets are translated by BPF programs, the rest in user space"
	}
	return text + "user engine: every packet is translated in user space, super-packets whole"
}

func (g *gateway) packages() []string { return nil }

func (g *gateway) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, g.path, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s -version: %w: %s", g.path, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func (g *gateway) start(ctx context.Context, l *lab.Lab, s setup) (*service, error) {
	dir, err := os.MkdirTemp(l.Dir, "gateway-")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "socket")
	conf := filepath.Join(dir, "gateway.toml")
	text := fmt.Sprintf(`[nat64]
prefix = %q
inside = [%q]
outside = [%q]
clients = [%q]
pool = %q
engine = %q
tun = %q
[control]
socket = %q
`, gatewayPrefix, lab.RouterInside, lab.RouterOutside, mapClients, mapPool, g.engine, gatewayTUN, socket)
	err = os.WriteFile(conf, []byte(text), 0o644)
	if err == nil && s.Maps > 0 {
		err = writeMaps(filepath.Join(dir, "maps"), s.Maps)
	}
	if err != nil {
		return nil, err
	}
	cmd := l.Router.Command(context.WithoutCancel(ctx), g.path, "-config", conf)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+dir, "STATE_DIRECTORY="+dir)
	output := new(tail)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is for us, who stop it
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	var waitErr error
	go func() {
		waitErr = cmd.Wait()
		close(exited)
	}()
	end := func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(undoTimeout):
			cmd.Process.Kill()
			<-exited
		}
		return errors.Join(waitErr, os.RemoveAll(dir))
	}
	if err := g.ready(ctx, socket, s.Maps, exited); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, output), end())
	}
	stop := func() error { return errors.Join(g.check(socket, exited), end()) }
	return &service{target: gatewayTarget(), ipv4: true, pid: cmd.Process.Pid, exited: exited, output: output, stop: stop}, nil
}

// ready waits until the gateway translates and has read its maps.
func (g *gateway) ready(ctx context.Context, socket string, maps int, exited <-chan struct{}) error {
	client := control.NewGatewayClient(socket)
	for {
		s, err := client.Status(ctx)
		if err == nil && s.Gateway != nil && s.Gateway.Up {
			if s.Gateway.Maps.Dynamic < maps {
				return fmt.Errorf("the gateway has %d maps, not %d", s.Gateway.Maps.Dynamic, maps)
			}
			return nil
		}
		select {
		case <-exited:
			return errors.New("tnat64-gateway ended at once")
		case <-ctx.Done():
			return fmt.Errorf("tnat64-gateway did not get ready: %w", errors.Join(context.Cause(ctx), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// check makes sure that the engine was the one that the contestant is named after.
func (g *gateway) check(socket string, exited <-chan struct{}) error {
	select {
	case <-exited:
		return nil // it has been reported
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := control.NewGatewayClient(socket).Status(ctx)
	if err != nil {
		return err
	}
	if s.Gateway == nil {
		return errors.New("the gateway reports no NAT64")
	}
	if s.Gateway.Engine != g.engine {
		return fmt.Errorf("the gateway's engine is %s: %s", s.Gateway.Engine, s.Gateway.EngineWhy)
	}
	for _, t := range s.Gateway.Traffic {
		if t.Engine == g.engine && t.Packets > 0 {
			return nil
		}
	}
	return fmt.Errorf("the %s engine of the gateway has not translated a packet", g.engine)
}

// What clients of the gateway have. The laptop is one of mapClients.
const (
	mapClients = "2001:db8:1::/48"
	mapPool    = "100.64.0.0/10"
	mapsPer64  = 200
)

// writeMaps writes a state file of the gateway with n dynamic maps of hosts that
// are silent during the measurement.
func writeMaps(path string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "tnat64-gateway maps 1")
	now := time.Now().Unix()
	v4 := netip.MustParsePrefix(mapPool).Addr().Next().Next()
	v6 := netip.MustParsePrefix(mapClients).Addr().As16()
	for i := range n {
		link := i/mapsPer64 + 1 // not the laptop's own /64
		v6[6], v6[7], v6[15] = byte(link>>8), byte(link), byte(i%mapsPer64+1)
		fmt.Fprintf(w, "%s %s %d\n", v4, netip.AddrFrom16(v6), now)
		v4 = v4.Next()
	}
	return errors.Join(w.Flush(), f.Close())
}
