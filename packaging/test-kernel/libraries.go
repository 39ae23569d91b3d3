package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// lddLibraries asks ldd for the shared libraries of a program of this machine,
// and returns their paths.
func lddLibraries(ctx context.Context, file string) (paths []string, err error) {
	out, err := output(exec.CommandContext(ctx, "ldd", file))
	if err != nil {
		return nil, err
	}
	for word := range strings.FieldsSeq(out) {
		if path.IsAbs(word) {
			paths = append(paths, word)
		}
	}
	return paths, nil
}

// elfLibraries returns the paths in root of the dynamic linker and the shared
// libraries of a program there, and of those that these need in turn.
func elfLibraries(root, file string) (paths []string, err error) {
	for todo := []string{file}; len(todo) > 0; todo = todo[1:] {
		f, err := elf.Open(filepath.Join(root, todo[0]))
		if err != nil {
			return nil, err
		}
		needed, err := f.ImportedLibraries()
		runpath, _ := f.DynString(elf.DT_RUNPATH)
		linker := interpreter(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", todo[0], err)
		}
		if linker != "" && !slices.Contains(paths, linker) {
			paths = append(paths, linker)
		}
		for _, name := range needed {
			library, err := findLibrary(root, name, runpath)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", todo[0], err)
			}
			if !slices.Contains(paths, library) {
				paths, todo = append(paths, library), append(todo, library)
			}
		}
	}
	return paths, nil
}

// interpreter returns the dynamic linker that a program names, or "".
func interpreter(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name := make([]byte, p.Filesz)
			if _, err := p.ReadAt(name, 0); err == nil {
				return strings.TrimRight(string(name), "\x00")
			}
		}
	}
	return ""
}

// findLibrary returns the path in root of a library, as the dynamic linker of
// Debian looks for it.
func findLibrary(root, name string, runpath []string) (string, error) {
	dirs := slices.Concat(runpath, []string{"/lib", "/usr/lib"})
	for _, pattern := range []string{"/lib/*-linux-gnu", "/usr/lib/*-linux-gnu"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return "", err
		}
		for _, dir := range found {
			dirs = append(dirs, strings.TrimPrefix(dir, root))
		}
	}
	for _, dir := range dirs {
		file := path.Join(dir, name)
		if _, err := os.Stat(filepath.Join(root, file)); err == nil {
			return file, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("library %s is in none of %q", name, dirs)
}
