package steer

import "testing"

// TestLoadSharing has the kernel verify the programs that share an address.
func TestLoadSharing(t *testing.T) {
	needsRoot(t)
	c := newConstants(1000001, true, 1000002)
	c.sharing = true
	o, err := load(c)
	if err != nil {
		t.Fatalf("without the kernel engine: %+v", err)
	}
	o.Close()
	o, refused, err := loadEngine(c)
	if err != nil || refused != nil {
		t.Fatalf("with the kernel engine: %+v, %+v", refused, err)
	}
	o.Close()
}
