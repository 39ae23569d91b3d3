// Command image writes an OCI image of tnat64d for several architectures as one
// archive, from scratch: static binaries, their licences and empty directories,
// nothing else.
// The same binaries and time give the same bytes.
//
//	image -version V -revision COMMIT -time SECONDS -out FILE.tar ARCH=DIRECTORY...
//
// DIRECTORY has the binaries for ARCH (amd64, arm64), LICENSE, and the licences
// of what is linked into them, third-party-notices.gz.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// programs are in /usr/bin of the image.
var programs = []string{"tnat64ctl", "tnat64d"}

// licences are in /usr/share/licenses/tnat64d of the image, as in the rpm.
var licences = []string{"LICENSE", "third-party-notices.gz"}

// directories are made, so that volumes have a place on a read-only root.
var directories = []string{"etc/", "etc/tnat64/", "run/", "run/tnat64/", "usr/", "usr/bin/", "usr/share/", "usr/share/licenses/", "usr/share/licenses/tnat64d/", "var/", "var/lib/", "var/lib/tnat64/"}

// made is what an image is made from.
type made struct {
	version, revision string
	at                time.Time
}

func run() error {
	var m made
	flag.StringVar(&m.version, "version", "unknown", "of tnat64d")
	flag.StringVar(&m.revision, "revision", "", "commit")
	seconds := flag.Int64("time", 0, "Unix `SECONDS` of everything in the image")
	out := flag.String("out", "", "`FILE` to write")
	flag.Parse()
	if *out == "" || flag.NArg() == 0 {
		return errors.New("-out FILE and ARCH=DIRECTORY are needed")
	}
	m.at = time.Unix(*seconds, 0).UTC()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arg := range flag.Args() {
		arch, dir, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not ARCH=DIRECTORY", arg)
		}
		image, err := m.image(arch, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return m.archive(index, *out)
}

// image returns the image for one architecture.
func (m made) image(arch, dir string) (v1.Image, error) {
	content, err := m.layer(dir)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{
		Created: v1.Time{Time: m.at}, CreatedBy: "make image", Comment: "static binaries",
	}})
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, m.config(image, arch))
}

// config returns the configuration of the image. It runs as root, as the
// capabilities that a runtime adds reach no other user's processes everywhere.
func (m made) config(image v1.Image, arch string) *v1.ConfigFile {
	file, err := image.ConfigFile()
	if err != nil {
		file = &v1.ConfigFile{} // of an image in memory: cannot fail
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", arch, v1.Time{Time: m.at}
	file.Config = v1.Config{
		Entrypoint: []string{"/usr/bin/tnat64d"},
		Env:        []string{"PATH=/usr/bin", "GOTRACEBACK=crash"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "tnat64d",
			"org.opencontainers.image.description": "464XLAT CLAT: IPv4 on IPv6-only networks",
			"org.opencontainers.image.licenses":    "Apache-2.0 AND (MIT OR GPL-2.0-only)",
			"org.opencontainers.image.version":     m.version,
			"org.opencontainers.image.revision":    m.revision,
		},
	}
	return file
}

// layer returns the files of the image as a tar archive.
func (m made) layer(dir string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, d := range directories {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755, ModTime: m.at}); err != nil {
			return nil, err
		}
	}
	for _, name := range programs {
		if err := m.add(w, path.Join("usr/bin", name), filepath.Join(dir, name), 0o755); err != nil {
			return nil, err
		}
	}
	for _, name := range licences {
		if err := m.add(w, path.Join("usr/share/licenses/tnat64d", name), filepath.Join(dir, name), 0o644); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// add adds a regular file.
func (m made) add(w *tar.Writer, name, file string, mode int64) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, ModTime: m.at, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

// archive writes an image layout (OCI Image Layout Specification) with the
// index as its one entry, as a tar archive.
func (m made) archive(index v1.ImageIndex, out string) error {
	dir, err := os.MkdirTemp("", "tnat64-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := l.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "tnat64d"})); err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return m.add(w, name, file, 0o644)
	})
	return errors.Join(err, w.Close(), f.Close())
}
