package pref64

import (
	"log/slog"
	"slices"
	"time"
)

const (
	maxRecent = 64        // different ignored things that are remembered
	logEvery  = time.Hour // between two log lines with the same reason
)

// ledger remembers what was ignored, in bounded memory, and logs it without
// letting a flood fill the log.
type ledger struct {
	log    *slog.Logger
	totals [NumReasons]uint64
	recent []Ignored
	logged [NumReasons]time.Time
}

// note counts ig at now, once or as often as its Count says. When too many different things have been ignored the
// one that was seen longest ago is forgotten; the totals keep counting it.
func (l *ledger) note(ig Ignored, now time.Time) {
	times := max(ig.Count, 1)
	l.totals[ig.Reason] += times
	if last := l.logged[ig.Reason]; last.IsZero() || now.Sub(last) >= logEvery {
		l.logged[ig.Reason] = now
		l.warn(ig)
	}

	i := slices.IndexFunc(l.recent, func(o Ignored) bool {
		return o.Reason == ig.Reason && o.Prefix == ig.Prefix && o.Router == ig.Router
	})
	ig.Count = times
	switch {
	case i >= 0:
		ig.Count += l.recent[i].Count
		l.recent = slices.Delete(l.recent, i, i+1)
	case len(l.recent) == maxRecent:
		l.recent = slices.Delete(l.recent, 0, 1)
	}
	ig.Last = now
	l.recent = append(l.recent, ig)
}

func (l *ledger) warn(ig Ignored) {
	attrs := []any{"reason", ig.Reason.String()}
	if ig.Prefix.IsValid() {
		attrs = append(attrs, "pref64", ig.Prefix)
	}
	if ig.Router.IsValid() {
		attrs = append(attrs, ig.Reason.speaker(), ig.Router)
	}
	l.log.Warn("ignored by PREF64 discovery: "+ig.Reason.Explanation(), attrs...)
}
