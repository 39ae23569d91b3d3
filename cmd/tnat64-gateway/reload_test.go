package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A reload to an address of DNS64 that another server has would end the daemon, and
// with it NAT64, after the old configuration has been left.
func TestReloadKeepsTheOldConfigurationWhereDNS64CannotListen(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var log bytes.Buffer
	d := &gateway{file: filepath.Join(t.TempDir(), "gateway.toml"), log: slog.New(slog.NewTextHandler(&log, nil))}
	text := fmt.Sprintf("[nat64]\ninside = [\"lo\"]\ntun = \"reload-test64\"\n[dns64]\nlisten = [%q]\nupstream = [\"192.0.2.53\"]\n", other.LocalAddr())
	if err := os.WriteFile(d.file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if next := d.reload(); next != nil || !strings.Contains(log.String(), "keeping the old one") || !strings.Contains(log.String(), "address already in use") {
		t.Errorf("the reload goes on: %v\n%s", next != nil, log.String())
	}
	other.Close()
	next := d.reload()
	if next == nil {
		t.Fatalf("refused although the address is free:\n%s", log.String())
	}
	// The DNS64 that runs has the address until it leaves it to its successor.
	running, err := net.ListenPacket("udp", other.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	for _, p := range next.parts {
		if p, ok := p.(*dnsPart); ok {
			d.dns64.Store(p)
		}
	}
	if d.reload() == nil {
		t.Errorf("refused as the DNS64 that runs has the address:\n%s", log.String())
	}
}
