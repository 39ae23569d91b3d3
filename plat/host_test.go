package plat

import (
	"net"
	"testing"
)

func TestBroadcast(t *testing.T) {
	for network, want := range map[string]string{
		"203.0.113.1/24": "203.0.113.255", "203.0.113.1/30": "203.0.113.3", "10.1.2.3/9": "10.127.255.255", "10.1.2.3/0": "255.255.255.255",
		"203.0.113.1/31": "<nil>", "203.0.113.1/32": "<nil>", "2001:db8::1/64": "<nil>",
	} {
		ip, n, err := net.ParseCIDR(network)
		if err != nil {
			t.Fatal(err)
		}
		n.IP = ip
		if got := broadcast(n).String(); got != want {
			t.Errorf("%s: %s, want %s", network, got, want)
		}
	}
}
