package main

import (
	"strings"
	"sync"
)

// logBook keeps all that a daemon writes to its log, up to a bound that no log
// of a test should reach.
type logBook struct {
	mu   sync.Mutex
	text []byte
}

const logBookBytes = 4 << 20

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.text) < logBookBytes {
		l.text = append(l.text, b...)
	}
	return len(b), nil
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// lines returns how many lines there are in which all the words occur.
func (l *logBook) lines(words ...string) (n int) {
	for line := range strings.Lines(l.String()) {
		if hasAll(line, words) {
			n++
		}
	}
	return n
}

func hasAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// clear begins anew.
func (l *logBook) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = nil
}
