package clat

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"tnat64d/internal/cause"
	"tnat64d/internal/regularfile"
	"tnat64d/internal/replacefile"
)

const secretLen = 32

// LoadSecret returns the secret in file, creating it (mode 0600) on the first
// start. If it can be neither read nor kept, the secret is a fresh one and
// the error says why the CLAT addresses will change with every start. Without
// enough file descriptors there is no secret, only an error.
func LoadSecret(file string) ([]byte, error) {
	b, err := regularfile.Read(file, secretLen+1)
	if err == nil && len(b) == secretLen {
		return b, nil
	}
	if cause.Of(err) == cause.Resource {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	fresh := make([]byte, secretLen)
	rand.Read(fresh) // never fails
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fresh, fmt.Errorf("read secret: %w", err)
	}
	if err := writeSecret(file, fresh); err != nil {
		return fresh, fmt.Errorf("keep secret: %w", err)
	}
	return fresh, nil
}

// writeSecret replaces the file in one step, so that a full disk or a crash
// leaves no half secret.
func writeSecret(file string, secret []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return replacefile.Write(file, func(w io.Writer) error {
		_, err := w.Write(secret)
		return err
	})
}
