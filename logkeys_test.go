package tnat64d

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var errorKey = regexp.MustCompile(`\.(?:Debug|Info|Warn|Error)\([^\n]*, "(?:err|error)",`)

// TestLogKeys holds log messages to one key for the cause, "reason": users filter by
// it, and the limit of floods (internal/journal) tells messages apart by it.
func TestLogKeys(t *testing.T) {
	for _, path := range files(t, ".go") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range errorKey.FindAllString(string(text), -1) {
			t.Errorf("%s: %s: the key of a cause is \"reason\"", path, call)
		}
	}
}
