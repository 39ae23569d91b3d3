package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// environment is what a shell on the laptop runs with.
type environment struct {
	shell     []string // $SHELL and its arguments
	variables []string // NAME=VALUE
}

// newEnvironment returns the environment of a shell on the laptop: a prompt
// that names it, tnat64ctl in $PATH, and the daemon's control socket and log.
func newEnvironment(l *lab.Lab, inv invocation, socket, logPath string) (environment, error) {
	path := programPath(inv)
	e := environment{variables: append(lab.WithoutProxies(os.Environ()),
		"PS1=(tnat64 laptop) # ", "TNAT64_LAB="+l.ID, "PATH="+path,
		control.SocketVariable+"="+socket, control.LogVariable+"="+logPath,
		// The machine's bus knows nothing of the laptop.
		"DBUS_SYSTEM_BUS_ADDRESS=unix:path="+filepath.Join(l.Dir, "no-bus"))}
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	e.shell = []string{shell}
	if filepath.Base(shell) == "bash" {
		// The user's own file may set prompt and PATH; this one has the last word.
		rc := filepath.Join(l.Dir, "bashrc")
		content := fmt.Sprintf("[ -f ~/.bashrc ] && . ~/.bashrc\nPS1=\"(tnat64 laptop) $PS1\"\nPATH=%s\n", quote(path))
		if err := os.WriteFile(rc, []byte(content), 0o644); err != nil {
			return environment{}, err
		}
		e.shell = append(e.shell, "--rcfile", rc)
	}
	return e, nil
}

// programPath returns $PATH with the directories of tnat64-lab and of the
// daemon in front, where tnat64ctl is.
func programPath(inv invocation) string {
	dirs := []string{filepath.Dir(inv.tnat64d)}
	if self, err := os.Executable(); err == nil && filepath.Dir(self) != dirs[0] {
		dirs = append([]string{filepath.Dir(self)}, dirs...)
	}
	if path := os.Getenv("PATH"); path != "" {
		dirs = append(dirs, path)
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

// writeJoin writes a script that opens the same shell on the laptop from
// another terminal, and returns its path. It takes from that terminal what
// depends on it and otherwise runs with e.
func (e environment) writeJoin(l *lab.Lab) (path string, err error) {
	thread, err := l.Laptop.ThreadID()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#!/bin/sh\n# Opens a shell on the laptop of %s.\nexec nsenter --target %d --net --mount env -i", l.ID, thread)
	for _, v := range e.variables {
		if name, _, _ := strings.Cut(v, "="); name != "TERM" {
			b.WriteString(" " + quote(v))
		}
	}
	b.WriteString(` TERM="${TERM:-dumb}"`)
	for _, arg := range e.shell {
		b.WriteString(" " + quote(arg))
	}
	b.WriteString("\n")
	path = filepath.Join(l.Dir, "join")
	return path, os.WriteFile(path, []byte(b.String()), 0o700)
}

// quote returns s as one word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
