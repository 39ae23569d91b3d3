package plan

import (
	"strconv"
	"strings"
)

// maxName is how long an interface name may be (IFNAMSIZ without its 0).
const maxName = 15

// stem returns a name without the number at its end.
func stem(name string) string { return strings.TrimRight(name, "0123456789") }

// numbered returns the nth name with the stem of name, as short as it has to be.
func numbered(name string, n int) string {
	number := strconv.Itoa(n)
	s := stem(name)
	return s[:min(len(s), maxName-len(number))] + number
}
