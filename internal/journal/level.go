package journal

import (
	"errors"
	"log/slog"
)

// ParseLevel reads the value of a -log-level flag into l. The error names the
// allowed values.
func ParseLevel(s string, l *slog.Level) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	v, ok := levels[s]
	if !ok {
		return errors.New("allowed: debug, info, warn, error")
	}
	*l = v
	return nil
}
