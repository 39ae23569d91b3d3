package main

import "tnat64d/internal/config"

// newAdvertise returns nil if c names no interface to advertise on.
func (d *gateway) newAdvertise(c config.Gateway) (part, error) { return nil, nil }
