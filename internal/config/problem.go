package config

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is one mistake in a file, or one thing worth a warning.
type Problem struct {
	File   string
	Line   int // from 1; 0 if the problem is the whole file
	Column int // in bytes, from 1

	Key     string // for example "clat.mtu"; empty if it is about no key
	What    string // what is wrong, with the offending text quoted
	Allowed string // what would be right; may be empty

	excerpt string // the line and a mark under the offending text
}

// String is the problem in one line: FILE:LINE:COLUMN: key: what; allowed: values.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.What)
	if p.Allowed != "" {
		b.WriteString("; allowed: " + p.Allowed)
	}
	return b.String()
}

// Error holds the mistakes of a file in the order of the file.
type Error struct {
	Problems []Problem
}

// Error is one line for each mistake.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// Detail is Error with the offending lines marked, for a person at a terminal.
// It ends with a newline.
func (e *Error) Detail() string {
	var b strings.Builder
	for _, p := range e.Problems {
		b.WriteString(p.String())
		b.WriteByte('\n')
		b.WriteString(p.excerpt)
	}
	return b.String()
}

// excerptWidth keeps a marked line readable where the file has very long ones.
const excerptWidth = 100

// locate returns line and column of an offset, and the marked line.
func locate(data []byte, at span) (line, column int, excerpt string) {
	off := min(at.off, len(data))
	start := 0
	line = 1
	for i, c := range data[:off] {
		if c == '\n' {
			line++
			start = i + 1
		}
	}
	column = off - start + 1

	end := start
	for end < len(data) && data[end] != '\n' && data[end] != '\r' {
		end++
	}
	if end < off { // a position on the line end itself
		end = off
	}
	if off-start > excerptWidth {
		return line, column, ""
	}
	text := printable(data[start:min(end, start+excerptWidth)])
	lead := utf8.RuneCountInString(printable(data[start:off]))
	marked := max(1, utf8.RuneCountInString(printable(data[off:max(off, min(off+at.len, end, start+excerptWidth))])))
	number := fmt.Sprintf("%5d", line)
	return line, column, fmt.Sprintf("%s | %s\n%s | %s%s\n", number, text,
		strings.Repeat(" ", len(number)), strings.Repeat(" ", lead), strings.Repeat("^", marked))
}

// printable makes file content safe for a terminal: one cell for each rune,
// tabs as spaces, nothing that moves the cursor.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, string(b))
}
