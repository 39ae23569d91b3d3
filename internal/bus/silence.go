package bus

import (
	"sync"
	"time"
)

// silence remembers which services have not answered, so that they are left
// alone for restPause. "" stands for the bus itself. Its methods may be called
// concurrently.
type silence struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// note remembers that the service does not answer.
func (s *silence) note(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == nil {
		s.since = make(map[string]time.Time)
	}
	s.since[service] = time.Now()
}

// forget lets the service be asked again at once.
func (s *silence) forget(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.since, service)
}

// forgetAll lets every service be asked again at once.
func (s *silence) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.since)
}

// left returns for how long the service is to be left alone, in whole seconds;
// 0: it may be asked.
func (s *silence) left(service string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.since[service]
	if !ok {
		return 0
	}
	if left := restPause - time.Since(since); left > 0 {
		return max(left.Round(time.Second), time.Second)
	}
	delete(s.since, service)
	return 0
}
