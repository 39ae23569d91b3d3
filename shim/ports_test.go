package shim

import "testing"

func ports(all ...uint16) (p portSet) {
	for _, port := range all {
		p.add(port)
	}
	return p
}

func TestLimitsOnlyShrink(t *testing.T) {
	const none = ^uint64(0)
	var l limits
	l.begin(none)
	if !l.permits(none, 80) || l.permits(none-1, 80) {
		t.Error("no limit permits everything, an unknown mark nothing")
	}
	web, ok := l.restrict(none, ports(80, 443))
	if !ok || !l.permits(web, 80) || !l.permits(web, 443) || l.permits(web, 22) || l.permits(web, 0) || l.permits(web, 65535) {
		t.Error("two ports")
	}
	if again, _ := l.restrict(none, ports(80, 443)); again != web {
		t.Error("the same limit has another mark")
	}
	secure, ok := l.restrict(web, ports(443, 22))
	if !ok || secure >= web || l.permits(secure, 80) || l.permits(secure, 22) || !l.permits(secure, 443) {
		t.Error("a limit within a limit")
	}
	if mark, ok := l.restrict(12345, ports(80)); !ok || l.permits(mark, 80) {
		t.Error("an unknown mark comes to permit something")
	}
	for i := range uint16(2 * maxLimits) {
		l.restrict(none, ports(i))
	}
	if len(l.of) != maxLimits {
		t.Errorf("%d limits", len(l.of))
	}
	if _, ok := l.restrict(none, ports(9999)); ok {
		t.Error("a limit beyond the last")
	}
	var low limits
	low.begin(7) // there is no room for marks below
	if _, ok := low.restrict(7, ports(80)); ok {
		t.Error("a mark that can be guessed")
	}
}
