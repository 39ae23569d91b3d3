package control

import "sync"

// handling counts the requests that are being handled.
type handling struct {
	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup // Add with mu held and not ended
}

// begin counts a request, unless end has been called. The caller calls done
// afterwards if it returns true.
func (h *handling) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		h.running.Add(1)
	}
	return !h.ended
}

func (h *handling) done() { h.running.Done() }

// end lets no further request begin and waits for those that are handled.
func (h *handling) end() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.running.Wait()
}
