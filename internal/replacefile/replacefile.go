// Package replacefile replaces files in one step.
package replacefile

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Write replaces the file at path by what content writes. Readers, also after a crash
// or with a full disk, find the old content or the new one, never a part. Only this
// user can read the file. Its directory must exist.
func Write(path string, content func(w io.Writer) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // nothing once it has its name
	w := bufio.NewWriter(tmp)
	if err = content(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
