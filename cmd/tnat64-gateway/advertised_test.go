package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestAdvertisedFile(t *testing.T) {
	f := advertisedFile(filepath.Join(t.TempDir(), "advertised-lan0"))
	if all, err := f.Load(); len(all) != 0 || err != nil {
		t.Errorf("without a file: %v, %v", all, err)
	}
	want := map[netip.Prefix]time.Time{
		netip.MustParsePrefix("2001:db8:a::/64"): time.Unix(1764324000, 0),
		netip.MustParsePrefix("2001:db8:b::/64"): time.Unix(1764324001, 0),
	}
	if err := f.Save(want); err != nil {
		t.Fatal(err)
	}
	if all, err := f.Load(); !reflect.DeepEqual(all, want) || err != nil {
		t.Errorf("read %v, %v, want %v", all, err, want)
	}
	damaged := "2001:db8:a::/64 1764324000\n2001:db8:c::1/64 1\n192.0.2.0/24 1\n2001:db8:d::/64\nx y z\n\x00\n2001:db8:b::/64 1764324001\n"
	if err := os.WriteFile(string(f), []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := f.Load(); !reflect.DeepEqual(all, want) || err != nil {
		t.Errorf("of a damaged file: %v, %v, want %v", all, err, want)
	}
}
