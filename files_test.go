package tnat64d

import (
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
)

// files returns the paths of the repository's files with an extension.
func files(t *testing.T, extension string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "dist"}, path):
			return filepath.SkipDir
		case filepath.Ext(path) == extension:
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
