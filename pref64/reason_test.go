package pref64

import (
	"regexp"
	"testing"
)

// TestReasons: every reason has a name of its own and a sentence.
func TestReasons(t *testing.T) {
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	sentence := regexp.MustCompile(`^[A-Z].*\.$`)
	seen := map[string]bool{}
	for r := range NumReasons {
		if !kebab.MatchString(r.String()) || seen[r.String()] {
			t.Errorf("reason %d: name %q", r, r)
		}
		seen[r.String()] = true
		if !sentence.MatchString(r.Explanation()) {
			t.Errorf("reason %v: explanation %q", r, r.Explanation())
		}
	}
}
