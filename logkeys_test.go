package tnat64d

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var errorKey = regexp.MustCompile(`\.(?:Debug|Info|Warn|Error)\([^\n]*, "(?:err|error)",`)

// TestLogKeys holds log messages to one key for the cause, "reason": users filter by
// it, and the limit of floods (internal/journal) tells messages apart by it.
func TestLogKeys(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "dist"}, path):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, call := range errorKey.FindAllString(string(text), -1) {
			t.Errorf("%s: %s: the key of a cause is \"reason\"", path, call)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
