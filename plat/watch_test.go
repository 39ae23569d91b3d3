package plat

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A subscription that ends is renewed, and the host is looked at again: nobody
// knows what the lost events were.
func TestWatchIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var events chan struct{}
		subscribed, ended, changes := 0, 0, 0
		subscribe := func(done <-chan struct{}) (<-chan struct{}, error) {
			if subscribed++; subscribed == 2 {
				return nil, errors.New("no buffer space")
			}
			events = make(chan struct{}, 1)
			go func() { <-done; ended++ }()
			return events, nil
		}
		if err := watchHost(ctx, subscribe, func() { changes++ }); err != nil {
			t.Fatal(err)
		}
		settle := func() { time.Sleep(10 * time.Second); synctest.Wait() }
		settle()
		if changes != 0 {
			t.Errorf("%d changes of a quiet host", changes)
		}
		events <- struct{}{}
		settle()
		if changes != 1 {
			t.Errorf("%d changes after an event", changes)
		}
		close(events) // an overflow
		settle()
		if subscribed != 3 || ended != 1 || changes < 2 {
			t.Errorf("after an overflow: %d subscriptions, %d ended, %d changes", subscribed, ended, changes)
		}
		was := changes
		events <- struct{}{}
		settle()
		if changes != was+1 {
			t.Errorf("%d changes after another event, want 1", changes-was)
		}
		cancel()
		settle()
		if ended != 2 {
			t.Errorf("%d subscriptions ended, want 2", ended)
		}
	})
}
