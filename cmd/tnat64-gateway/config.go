package main

import (
	"errors"

	"tnat64d/internal/config"
)

// loadConfig reads and checks a configuration file.
func loadConfig(string) (config.Gateway, error) {
	return config.Gateway{}, errors.New("this build cannot read the configuration yet")
}
