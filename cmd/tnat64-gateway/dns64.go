package main

import "tnat64d/internal/config"

// newDNS64 returns nil if c names no address to listen on.
func (d *gateway) newDNS64(c config.Gateway) (part, error) { return nil, nil }
