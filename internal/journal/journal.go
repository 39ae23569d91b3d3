// Package journal writes the daemon's log: for systemd's journal as lines with
// a priority and without time, for everybody else as slog's text. A flood of
// the same is one line and a count.
package journal

import (
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// New returns a handler that writes records of the level and above to f, with
// flood control: in the journal's format if f is a stream to the journal, as
// slog's text otherwise.
func New(f *os.File, level slog.Leveler) *Handler {
	if IsJournal(f) {
		return Limit(NewLines(f, level))
	}
	return Limit(slog.NewTextHandler(f, &slog.HandlerOptions{Level: level}))
}

// IsJournal reports whether f is connected to the journal, which says in the
// environment's JOURNAL_STREAM what stream it gave us (systemd.exec(5)). The
// variable alone means nothing: it is inherited by what a service starts, and
// stderr may have been redirected since.
func IsJournal(f *os.File) bool {
	dev, ino, ok := strings.Cut(os.Getenv("JOURNAL_STREAM"), ":")
	if !ok {
		return false
	}
	wantDev, err1 := strconv.ParseUint(dev, 10, 64)
	wantIno, err2 := strconv.ParseUint(ino, 10, 64)
	info, err3 := f.Stat()
	if err1 != nil || err2 != nil || err3 != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Dev == wantDev && st.Ino == wantIno
}

// priority is the syslog severity of a level, as sd-daemon(3) has it.
func priority(l slog.Level) byte {
	switch {
	case l >= slog.LevelError:
		return '3'
	case l >= slog.LevelWarn:
		return '4'
	case l >= slog.LevelInfo:
		return '6'
	}
	return '7'
}
