package control

import "sync"

// watcher is somebody who wants to know of changes.
type watcher struct {
	changed chan struct{} // capacity 1
}

// watchers are those that watch now. Their methods may be called concurrently.
type watchers struct {
	mu  sync.Mutex
	all map[*watcher]struct{}
}

func (ws *watchers) add() *watcher {
	w := &watcher{changed: make(chan struct{}, 1)}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.all == nil {
		ws.all = make(map[*watcher]struct{})
	}
	ws.all[w] = struct{}{}
	return w
}

func (ws *watchers) remove(w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.all, w)
}

// tell signals every watcher, and blocks on none.
func (ws *watchers) tell() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.all {
		select {
		case w.changed <- struct{}{}:
		default: // it will be told the latest state anyway
		}
	}
}
