// Package apt says where this machine gets Debian from, for tests that need
// another release of it.
package apt

import (
	"context"
	"errors"
	"fmt"
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

// output runs a command and returns its standard output; the error carries its
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
