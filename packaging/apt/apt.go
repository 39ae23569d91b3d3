// Package apt runs apt for another release or architecture of Debian than the
// machine's: from the machine's own mirror, with a state of its own, and without
// installing anything.
package apt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Releases are the releases of Debian that tests know, oldest first, by code
// name.
var Releases = []string{"bookworm", "trixie", "forky"}

// AnyDate is an option of apt-get: a mirror may be a snapshot of an earlier day,
// whose lists have expired.
const AnyDate = "Acquire::Check-Valid-Until=false"

// keyring has the keys of the archive.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Site returns the URI of the Debian archive that this machine is set up for. It
// has all releases.
func Site(ctx context.Context) (string, error) {
	out, err := output(exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if site, name, _ := strings.Cut(strings.TrimSpace(line), " "); slices.Contains(Releases, name) {
			return site, nil
		}
	}
	return "", fmt.Errorf("apt is not set up for any of Debian %s", strings.Join(Releases, ", "))
}

// Archive is a release for an architecture, with apt's state in a directory.
type Archive struct {
	dir     string
	options []string
}

// Open reads the package lists of a release for an architecture, as Debian calls
// them. dir exists and is empty; it is the caller's to remove.
func Open(ctx context.Context, dir, release, arch string) (*Archive, error) {
	site, err := Site(ctx)
	if err != nil {
		return nil, err
	}
	sources := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, site, release)
	err = errors.Join(
		os.MkdirAll(filepath.Join(dir, "lists", "partial"), 0o755),
		os.MkdirAll(filepath.Join(dir, "archives", "partial"), 0o755),
		os.WriteFile(filepath.Join(dir, "status"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "sources.list"), []byte(sources), 0o644),
	)
	if err != nil {
		return nil, err
	}
	a := &Archive{dir: dir, options: []string{
		"-qq", "-o", AnyDate, "-o", "APT::Architecture=" + arch, "-o", "APT::Architectures=" + arch, "-o", "APT::Sandbox::User=",
		"-o", "Dir::Etc::SourceList=" + filepath.Join(dir, "sources.list"), "-o", "Dir::Etc::SourceParts=-", "-o", "Dir::Etc::Preferences=-", "-o", "Dir::Etc::PreferencesParts=-",
		"-o", "Dir::State=" + dir, "-o", "Dir::State::Status=" + filepath.Join(dir, "status"), "-o", "Dir::Cache=" + dir,
	}}
	_, err = a.run(ctx, "apt-get", "update")
	return a, err
}

// Show returns the control paragraph of a package.
func (a *Archive) Show(ctx context.Context, name string) (string, error) {
	return a.run(ctx, "apt-cache", "show", "--no-all-versions", name)
}

// Download fetches packages without those that they depend on, and returns the
// files, which are in the archive's directory.
func (a *Archive) Download(ctx context.Context, names ...string) ([]string, error) {
	if _, err := a.run(ctx, "apt-get", append([]string{"download"}, names...)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(a.dir, "*.deb"))
}

// DownloadAll fetches packages with all that they depend on, and returns the
// files, which are in the archive's directory.
func (a *Archive) DownloadAll(ctx context.Context, names ...string) ([]string, error) {
	if _, err := a.run(ctx, "apt-get", append([]string{"install", "-y", "--no-install-recommends", "--download-only"}, names...)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(a.dir, "archives", "*.deb"))
}

func (a *Archive) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, append(slices.Clone(a.options), args...)...)
	cmd.Dir = a.dir
	return output(cmd)
}

// output runs a command and returns its standard output; the error includes its
// error output.
func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		return "", fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
	}
	return string(out), nil
}
