package config

import (
	"errors"
	"net/netip"
	"strings"

	"tnat64d/pref64"
)

// checkPREF64 says whether p can be a translation prefix.
func checkPREF64(p netip.Prefix) error {
	_, err := pref64.Check(p)
	if err == nil {
		return nil
	}
	// Its message begins with the prefix, which ours has quoted already.
	if _, why, ok := strings.Cut(err.Error(), ": "); ok {
		return errors.New("cannot be a PREF64: " + why)
	}
	return err
}
