package dump

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// Whole reads again after interruptions only, and not for ever.
func TestWhole(t *testing.T) {
	other := errors.New("other")
	interrupted := fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
	for _, c := range []struct {
		name    string
		answers []error
		reads   int
		want    error
	}{
		{"whole at once", []error{nil}, 1, nil},
		{"whole after changes", []error{interrupted, interrupted, nil}, 3, nil},
		{"whole after another list on the socket", []error{syscall.EBUSY, nil}, 2, nil},
		{"never whole", []error{interrupted, interrupted, interrupted, nil}, 3, netlink.ErrDumpInterrupted},
		{"another error", []error{interrupted, other, nil}, 2, other},
	} {
		reads := 0
		n, err := Whole(3, 0, func() (int, error) { reads++; return reads, c.answers[reads-1] })
		if reads != c.reads || n != reads || !errors.Is(err, c.want) {
			t.Errorf("%s: %d reads, %d, %v", c.name, reads, n, err)
		}
	}
}
