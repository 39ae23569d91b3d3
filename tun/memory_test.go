package tun

import "testing"

func TestMemory(t *testing.T) {
	m := NewMemory(1 << 20)
	if len(m.Bytes) != 1<<20 || !m.mapped {
		t.Fatalf("%d bytes, mapped: %v", len(m.Bytes), m.mapped)
	}
	m.Bytes[0], m.Bytes[1<<20-1] = 1, 1
	m.Free()
	m.Free()
	if m.Bytes != nil {
		t.Error("freed memory can still be reached")
	}
}
