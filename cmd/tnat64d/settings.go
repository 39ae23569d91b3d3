package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"tnat64d/clat/plan"
	"tnat64d/internal/config"
	"tnat64d/siit"
)

// planConfig is the part of the configuration that plan.Make follows.
func planConfig(c config.Config, secret []byte) plan.Config {
	p := plan.Config{
		Enable:      map[config.Enable]plan.Enable{config.Auto: plan.Auto, config.Always: plan.Always, config.Never: plan.Never}[c.CLAT.Enable],
		Uplinks:     c.CLAT.Uplinks,
		IPv6:        c.CLAT.IPv6,
		Shared:      c.CLAT.SharedIPv6,
		MTU:         plan.MTU4(c.CLAT.MTU),
		TUN:         c.CLAT.TUN,
		Queues:      c.CLAT.QueueCount(runtime.NumCPU()),
		Metric:      int(c.CLAT.Metric),
		Secret:      secret,
		Translation: c.Translator(netip.Prefix{}, siit.Pair{}, 0),
	}
	if c.CLAT.IPv4Fixed {
		p.IPv4 = c.CLAT.IPv4
	}
	return p
}

// runtimeDir and stateDir follow systemd's RuntimeDirectory= and
// StateDirectory=.
func runtimeDir() string { return directory("RUNTIME_DIRECTORY", "/run/tnat64") }
func stateDir() string   { return directory("STATE_DIRECTORY", "/var/lib/tnat64") }

func directory(env, otherwise string) string {
	if dirs := filepath.SplitList(os.Getenv(env)); len(dirs) > 0 {
		return dirs[0]
	}
	return otherwise
}

// configFile returns the file that config.Load(file) reads, or nothing if that
// is the default one and absent.
func configFile(file string) string {
	if file != "" {
		return file
	}
	if _, err := os.Stat(config.DefaultPath); err != nil {
		return ""
	}
	return config.DefaultPath
}
