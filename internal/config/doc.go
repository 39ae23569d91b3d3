// Package config reads the TOML configuration that tnat64d and tnat64ctl
// share, and checks it before anything is touched.
//
// A [Config] is made of real types and has been validated: whoever holds one
// need not look at a value again. A mistake is a [Problem] with file, line and
// column, the offending text and what is allowed instead, also where two keys
// contradict each other. All mistakes of a file are reported at once; only a
// syntax error hides those behind it.
//
// What it does not do: look at the host. Whether an uplink exists or an
// address is in use is for those who act on the configuration.
package config
