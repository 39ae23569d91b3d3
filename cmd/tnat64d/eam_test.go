package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"tnat64d/datapath/steerable"
	"tnat64d/internal/config"
)

// TestEAMIsSteerable holds package config, which does not know the packet path, to refuse
// the mappings that no steering takes.
func TestEAMIsSteerable(t *testing.T) {
	for _, ipv6 := range []string{"2001:db8::1/128", "::2/128", "::1/128", "::/128", "fe7f::1/128", "fe80::1/128", "febf::1/128", "fec0::1/128", "fdff::1/128", "feff::1/128", "ff00::/128", "ff02::1/128"} {
		file := filepath.Join(t.TempDir(), "tnat64d.toml")
		text := fmt.Sprintf("[[translation.eam]]\nipv4 = \"192.0.2.1\"\nipv6 = %q\n", ipv6)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, refused := config.Load(file)
		if err := steerable.CheckPrefix(netip.MustParsePrefix(ipv6)); (err == nil) != (refused == nil) {
			t.Errorf("%s: the configuration says %v, steering %v", ipv6, refused, err)
		}
	}
}
