package lab

import "strings"

// WithoutProxies returns env without the variables that would send curl to an
// HTTP proxy of the machine instead of to the address it is given, and with the
// C locale.
func WithoutProxies(env []string) []string {
	var kept []string
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			kept = append(kept, e)
		}
	}
	return append(kept, "LC_ALL=C")
}
