package journal

import (
	"bytes"
	"context"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxValue is how many bytes of a message or value are written; the journal
// splits lines that are very long.
const maxValue = 4 << 10

// Lines is a slog.Handler that writes one line per record for the journal:
// "<4>message key=value", where the number is the priority. Values with spaces
// or special characters are quoted as in Go, so that a line never has a line
// break in it. The record's time is the journal's business.
type Lines struct {
	out    *output
	level  slog.Leveler
	prefix string // of keys: the groups that are open, each with a dot
	attrs  []byte // of WithAttrs, as written
}

// output is shared by all handlers derived from one.
type output struct {
	sync.Mutex
	io.Writer
}

// NewLines returns a handler for records of the level and above.
func NewLines(w io.Writer, level slog.Leveler) *Lines {
	return &Lines{out: &output{Writer: w}, level: level}
}

// Enabled implements slog.Handler.
func (h *Lines) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle implements slog.Handler. It makes one write per record.
func (h *Lines) Handle(_ context.Context, r slog.Record) error {
	b := append(make([]byte, 0, 256), '<', priority(r.Level), '>')
	b = appendMessage(b, r.Message)
	b = append(b, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.prefix, a)
		return true
	})
	b = append(b, '\n')
	h.out.Lock()
	defer h.out.Unlock()
	_, err := h.out.Write(b)
	return err
}

// WithAttrs implements slog.Handler.
func (h *Lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = bytes.Clone(h.attrs)
	for _, a := range attrs {
		c.attrs = appendAttr(c.attrs, h.prefix, a)
	}
	return &c
}

// WithGroup implements slog.Handler.
func (h *Lines) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix += name + "."
	return &c
}

// appendMessage appends a message; control characters, which include line
// breaks, are escaped.
func appendMessage(b []byte, s string) []byte {
	for _, r := range clip(s) {
		if unicode.IsControl(r) {
			q := strconv.QuoteRune(r)
			b = append(b, q[1:len(q)-1]...)
		} else {
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

func appendAttr(b []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return b
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, m := range v.Group() {
			b = appendAttr(b, prefix, m)
		}
		return b
	}
	b = append(b, ' ')
	b = appendQuoted(b, prefix+a.Key)
	b = append(b, '=')
	return appendQuoted(b, clip(text(v)))
}

// text returns a value as slog's own text does.
func text(v slog.Value) (s string) {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339)
	case slog.KindAny:
		defer func() {
			if p := recover(); p != nil { // a nil pointer with a method
				s = "<nil>"
			}
		}()
		switch a := v.Any().(type) {
		case error, fmt.Stringer:
			return fmt.Sprint(a)
		case encoding.TextMarshaler:
			if t, err := a.MarshalText(); err == nil {
				return string(t)
			}
		case []byte:
			return string(a)
		}
		return fmt.Sprintf("%+v", v.Any())
	}
	return v.String()
}

func clip(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return s[:maxValue] + "…"
}

// appendQuoted appends s, quoted if it could be misread.
func appendQuoted(b []byte, s string) []byte {
	plain := s != ""
	for _, r := range s {
		if r == ' ' || r == '"' || r == '=' || r == '\\' || r == utf8.RuneError || !unicode.IsPrint(r) {
			plain = false
			break
		}
	}
	if plain {
		return append(b, s...)
	}
	return strconv.AppendQuote(b, s)
}
