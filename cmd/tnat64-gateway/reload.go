package main

import "tnat64d/internal/config"

// reload reads the configuration file again and returns its parts; nil if the
// file is wrong: the daemon goes on with the old configuration.
func (d *gateway) reload() []part {
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
	if err != nil {
		d.log.Error("the configuration is not reloaded; the old one stays in force", "reason", err)
		return nil
	}
	d.log.Info("reloading the configuration", "file", d.file)
	return parts
}
