package main

import (
	"log/slog"

	"tnat64d/internal/config"
)

// successor is what a reload puts in the place of what runs.
type successor struct {
	parts  []part
	config config.Gateway
}

// warn logs what is doubtful in the file.
func warn(log *slog.Logger, f *config.GatewayFile) {
	for _, w := range f.Warnings {
		log.Warn("configuration", "reason", w.String())
	}
}

// reload reads the configuration file again; nil if it is wrong: the daemon goes
// on with the old configuration.
func (d *gateway) reload() *successor {
	f, err := config.LoadGateway(d.file)
	if err == nil {
		var host hostView
		if host, err = observeHost(); err == nil {
			host.check(f)
			err = f.Err()
		}
	}
	var parts []part
	if err == nil {
		parts, err = d.parts(f.Gateway)
	}
	for _, p := range parts {
		// Once the old parts have ended, this would end the daemon.
		if p, ok := p.(*dnsPart); ok && err == nil {
			err = p.probe(d.dns64.Load())
		}
	}
	if err != nil {
		d.log.Error("cannot reload the configuration; keeping the old one", "reason", err)
		return nil
	}
	d.log.Info("reloading the configuration", "file", d.file)
	warn(d.log, f)
	return &successor{parts, f.Gateway}
}
