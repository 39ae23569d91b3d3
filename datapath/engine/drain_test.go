package engine

import (
	"os"
	"testing"

	"tnat64d/tun"
)

// interrupted hands out frames and then ends as an interrupted queue does, without
// having been found empty.
type interrupted struct {
	script
	closed bool
}

func (q *interrupted) ReadIdle(buf []byte, off int, idle func()) (int, tun.VnetHeader, error) {
	if len(q.in) == 0 {
		return 0, tun.VnetHeader{}, os.ErrDeadlineExceeded
	}
	return q.script.ReadIdle(buf, off, idle)
}

func (q *interrupted) Write(buf []byte, off int, h tun.VnetHeader) error {
	if q.closed {
		return os.ErrClosed
	}
	return q.script.Write(buf, off, h)
}

func (q *interrupted) Close() error {
	q.closed = true
	return nil
}

// TestDrainWritesWhatWasRead ends two queues in the middle of a batch. What they
// have read is written, and counted as finished, before the queues are closed.
func TestDrainWritesWhatWasRead(t *testing.T) {
	const n = 7
	var finished [2]int
	var queues []*interrupted
	o := Options{OnFinished: func(queue int, b Batch) { finished[queue] += b.Packets }}
	for range 2 {
		q := &interrupted{script: script{in: udpFrames(n, 100)}}
		queues = append(queues, q)
		o.Queues = append(o.Queues, q)
	}
	e, _ := build(t, 0, o)
	if err := e.Drain(); err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context()); err != nil {
		t.Errorf("Run returns %v", err)
	}
	for i, q := range queues {
		if len(q.out) == 0 || finished[i] != n || !q.closed {
			t.Errorf("queue %d: %d packets written, %d of %d finished, closed %v", i, len(q.out), finished[i], n, q.closed)
		}
	}
}
