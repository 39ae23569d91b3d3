package control

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// complaints writes to the log what clients do wrong: a line per kind, and
// after that one per hour with the number of those between.
type complaints struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]*complaint
}

type complaint struct {
	last   time.Time
	unsaid int
}

const complaintInterval = time.Hour

func (c *complaints) say(msg string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.kinds[msg]
	if k == nil {
		k = new(complaint)
		c.kinds[msg] = k
	}
	now := time.Now()
	if !k.last.IsZero() && now.Sub(k.last) < complaintInterval {
		k.unsaid++
		return
	}
	if k.unsaid > 0 {
		args = append(args, "times", k.unsaid+1)
	}
	c.log.Warn(msg, args...)
	k.last, k.unsaid = now, 0
}

// Write takes what net/http has to say. Its lines tell kinds apart by their
// text, which may contain addresses; they count as one kind.
func (c *complaints) Write(line []byte) (int, error) {
	c.say("a request on the control socket failed", "reason", string(bytes.TrimSpace(line)))
	return len(line), nil
}
