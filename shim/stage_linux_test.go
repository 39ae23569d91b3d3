package shim

import (
	"strings"
	"testing"
	"time"
)

// A process that ends before it has said anything is noticed by its channel.
func TestStageEndsAtOnce(t *testing.T) {
	ours, theirs, err := newChannel()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.close()
	pid, err := stage("nothing", theirs, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reap(pid)
	var r report
	if _, err := ours.receive(&r, time.Minute); err == nil || !strings.Contains(err.Error(), "the other end has closed") {
		t.Errorf("received %+v, %v", r, err)
	}
}
