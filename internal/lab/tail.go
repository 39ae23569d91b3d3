package lab

import (
	"bytes"
	"sync"
)

// Tail keeps the last lines that are written to it, about 2,000 bytes. It may
// be used by several goroutines.
type Tail struct {
	mu   sync.Mutex
	tail []byte
}

const tailBytes = 2000

// Write appends b and forgets the oldest lines.
func (l *Tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, b...)
	if cut := len(l.tail) - tailBytes; cut > 0 {
		// From the beginning of a line on.
		if end := bytes.IndexByte(l.tail[cut:], '\n'); end >= 0 {
			cut += end + 1
		}
		l.tail = append([]byte(nil), l.tail[cut:]...)
	}
	return len(b), nil
}

// String returns the lines that are kept.
func (l *Tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.tail)
}
