package backoff

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	b := Backoff{10 * time.Second, 5 * time.Minute}
	for attempts, want := range map[int]time.Duration{
		0: 10 * time.Second, 1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 4: 80 * time.Second,
		5: 160 * time.Second, 6: 5 * time.Minute, 100: 5 * time.Minute, 1 << 30: 5 * time.Minute,
	} {
		if got := b.After(attempts); got != want {
			t.Errorf("after %d attempts: %v, want %v", attempts, got, want)
		}
		for range 100 {
			if got := b.Jittered(attempts); got > want || got <= want*9/10 {
				t.Fatalf("after %d attempts: %v, want up to a tenth less than %v", attempts, got, want)
			}
		}
	}
}
