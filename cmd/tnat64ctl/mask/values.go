package mask

import (
	"regexp"
	"strings"
)

var (
	// excerpt is a line of the configuration under a message about it.
	excerpt = regexp.MustCompile(`(?m)(^|\]: )( +[0-9]+ \| ).*`)
	// message begins a message about a line and a column of a file.
	message = regexp.MustCompile(`:[0-9]+:[0-9]+: `)
	// ssid is the name of a wireless network; without quotes it may go on with more
	// words. In JSON there is a quote, perhaps escaped, on either side of the colon.
	ssid = regexp.MustCompile(`(?i)((?:\b|_)e?ssid(?:\\*")?[ =:]+)(\\+"[^"\n]*"|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^"',;()\n]*[^\s"',;()])`)
)

// userinfo is what a URL has before its host: a user and a password (RFC 3986
// section 3.2.1).
var userinfo = regexp.MustCompile(`://[^/\s"'@]*@`)

// values masks what a message about the configuration quotes from it: values,
// comments, and text that is no TOML. Names of keys stay.
func (m *Masker) values(s string) string {
	s = excerpt.ReplaceAllString(s, "${1}${2}<line of the configuration>")
	s = ssid.ReplaceAllString(s, "${1}<name>")
	s = userinfo.ReplaceAllString(s, "://<user>@")
	var b strings.Builder
	for line := range strings.Lines(s) {
		if at := message.FindStringIndex(line); at != nil {
			b.WriteString(line[:at[1]])
			line = quotations(line[at[1]:], open(line[:at[1]]))
		}
		b.WriteString(line)
	}
	return b.String()
}

// quotations masks strings in quotes that are neither names of keys nor of the
// list of what is allowed. If a log quotes the message itself, its quotes are
// escaped with backslashes, and the first one without ends it.
func quotations(s string, escaped bool) string {
	var b strings.Builder
	for {
		begin := strings.IndexByte(s, '"')
		if allowed := strings.Index(s, "; allowed: "); begin < 0 || allowed >= 0 && allowed < begin {
			return b.String() + s
		}
		escapes := trailing(s[:begin])
		if escaped && escapes == 0 {
			return b.String() + s
		}
		end := begin + 1
		for end < len(s) && (s[end] != '"' || trailing(s[begin+1:end]) > escapes) {
			end++
		}
		if end == len(s) {
			return b.String() + s[:begin+1] + "<value>" + s[len(strings.TrimRight(s, "\n")):]
		}
		quoted := strings.TrimSuffix(s[begin+1:end], s[begin-escapes:begin])
		b.WriteString(s[:begin+1])
		if strings.HasSuffix(s[:begin-escapes], "key ") {
			b.WriteString(quoted)
		} else {
			b.WriteString("<value>")
		}
		b.WriteString(s[begin-escapes : begin])
		b.WriteByte('"')
		s = s[end+1:]
	}
}

// open reports whether a quotation is open at the end of s.
func open(s string) bool {
	inside := false
	for i := range len(s) {
		if s[i] == '"' && trailing(s[:i]) == 0 {
			inside = !inside
		}
	}
	return inside
}

// trailing counts the backslashes at the end of a string.
func trailing(s string) int { return len(s) - len(strings.TrimRight(s, `\`)) }
