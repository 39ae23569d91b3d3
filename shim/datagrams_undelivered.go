package shim

import (
	"slices"
	"sync"
)

// undeliveredDatagrams have been taken from a socket for a call that a signal has
// ended meanwhile. The next call on that socket gets them, the first first.
type undeliveredDatagrams struct {
	mu  sync.Mutex
	all []undelivered
}

type undelivered struct {
	cookie uint64
	received
}

// maxUndelivered bounds them. The oldest is lost, as any datagram may be.
const maxUndelivered = 64

func (u *undeliveredDatagrams) put(cookie uint64, r received) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.all) >= maxUndelivered {
		u.all = slices.Delete(u.all, 0, 1)
	}
	u.all = append(u.all, undelivered{cookie, r})
}

// take returns the first of a socket, which stays with peek.
func (u *undeliveredDatagrams) take(cookie uint64, peek bool) (r received, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.IndexFunc(u.all, func(d undelivered) bool { return d.cookie == cookie })
	if i < 0 {
		return received{}, false
	}
	r = u.all[i].received
	if !peek {
		u.all = slices.Delete(u.all, i, i+1)
	}
	return r, true
}
