package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
)

// module is a Go module with its version, or the standard library.
type module struct{ path, version string }

func (m module) String() string { return m.path + " " + m.version }

// source is where a module's files are, and the directories of its packages
// that are in use.
type source struct {
	root string
	dirs map[string]bool
}

// linked are the modules of which programs consist.
type linked map[module]*source

// listedPackage is what we want to know from `go list`.
type listedPackage struct {
	Dir      string
	Root     string // of the standard library: Go's own directory
	Standard bool
	Module   *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}
}

// add notes the modules of a program that was built from the module around the
// working directory. It returns an error if the program names others than
// `go list` does.
func (l linked) add(program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	packages, err := list(info)
	if err != nil {
		return err
	}
	found := make(map[module]bool)
	for _, p := range packages {
		m, root := module{"Go's standard library", info.GoVersion}, p.Root
		switch {
		case p.Standard:
		case p.Module == nil:
			return fmt.Errorf("%s belongs to no module", p.Dir)
		case p.Module.Main:
			continue
		case p.Module.Replace != nil:
			m, root = module{p.Module.Replace.Path, p.Module.Replace.Version}, p.Module.Replace.Dir
		default:
			m, root = module{p.Module.Path, p.Module.Version}, p.Module.Dir
		}
		if !p.Standard {
			found[m] = true
		}
		s := l[m]
		if s == nil {
			s = &source{root: root, dirs: make(map[string]bool)}
			l[m] = s
		}
		s.dirs[p.Dir] = true
	}
	named := make(map[module]bool)
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		named[module{d.Path, d.Version}] = true
	}
	if !maps.Equal(found, named) {
		return fmt.Errorf("the program names the modules %v, and its source uses %v", slices.Collect(maps.Keys(named)), slices.Collect(maps.Keys(found)))
	}
	return nil
}

// list returns the packages of a program, for the platform and with the tags
// that it was built for.
func list(info *debug.BuildInfo) ([]listedPackage, error) {
	cmd := exec.Command(goCommand(), "list", "-deps", "-json=Dir,Root,Standard,Module")
	cmd.Env = os.Environ()
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED":
			cmd.Env = append(cmd.Env, s.Key+"="+s.Value)
		case "-tags":
			cmd.Args = append(cmd.Args, "-tags="+s.Value)
		}
	}
	cmd.Args = append(cmd.Args, info.Path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w\n%s", info.Path, err, stderr.String())
	}
	var all []listedPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
}

// goCommand is the go command, as packages.sh has it.
func goCommand() string {
	if name := os.Getenv("GO"); name != "" {
		return name
	}
	return "go"
}
