// Package config reads the TOML configuration files and checks them before
// anything is changed: [Load] that of tnat64d and tnat64ctl translate,
// [LoadGateway] that of tnat64-gateway, [LoadShim] that of tnat64.
//
// A [Config] is made of real types and has been validated: whoever holds one
// need not look at a value again. A mistake is a [Problem] with file, line and
// column, the offending text and what is allowed instead, also where two keys
// contradict each other. All mistakes of a file are reported at once; only a
// syntax error hides those behind it.
//
// It does not look at the host. Whether an uplink exists or an address is in use
// is checked by the callers.
package config
