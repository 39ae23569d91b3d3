package plan_test

import (
	"regexp"
	"strings"
	"testing"

	"tnat64d/clat/plan"
)

func TestWarningKindsHaveWordsAndSentences(t *testing.T) {
	seen := map[string]bool{}
	word := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for k := range plan.NumWarningKinds {
		if !word.MatchString(k.String()) || seen[k.String()] {
			t.Errorf("kind %d is called %q", k, k)
		}
		seen[k.String()] = true
		if e := k.Explanation(); !strings.HasSuffix(e, ".") {
			t.Errorf("explanation of %s: %q", k, e)
		}
	}
}
