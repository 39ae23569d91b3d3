package shim

import (
	"testing"
	"time"
)

func TestAnsweredRestarted(t *testing.T) {
	at := time.Unix(1000, 0)
	for _, c := range []struct {
		name string
		a    answered
		tid  int
		now  time.Time
		want bool
	}{
		{"nothing was answered", answered{}, 0, at, false},
		{"the same thread, at once", answered{tid: 7, at: at, connected: true}, 7, at.Add(time.Millisecond), true},
		{"the same thread, later", answered{tid: 7, at: at, connected: true}, 7, at.Add(restartWithin), false},
		{"the same thread, in progress", answered{tid: 7, at: at}, 7, at.Add(time.Millisecond), false},
		{"the same thread, later, and the answer was lost", answered{tid: 7, at: at, lost: true}, 7, at.Add(time.Hour), true},
		{"another thread", answered{tid: 7, at: at, connected: true}, 8, at, false},
	} {
		if got := c.a.restarted(c.tid, c.now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
