package shim

import "testing"

func TestUndeliveredDatagrams(t *testing.T) {
	var u undeliveredDatagrams
	datagram := func(s string) received { return received{data: []byte(s), size: len(s)} }
	want := func(cookie uint64, peek bool, text string) {
		t.Helper()
		if r, ok := u.take(cookie, peek); ok != (text != "") || string(r.data) != text {
			t.Errorf("socket %d: %q, %v, want %q", cookie, r.data, ok, text)
		}
	}
	want(1, false, "")
	u.put(1, datagram("first"))
	u.put(2, datagram("of another socket"))
	u.put(1, datagram("second"))
	want(1, true, "first")
	want(1, false, "first")
	want(1, false, "second")
	want(1, false, "")
	for range maxUndelivered {
		u.put(3, datagram("x"))
	}
	want(2, false, "") // the oldest
	if len(u.all) != maxUndelivered {
		t.Errorf("%d are kept, want %d", len(u.all), maxUndelivered)
	}
}
