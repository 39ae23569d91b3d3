package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"tnat64d/internal/lab"
	"tnat64d/internal/say"
)

// invocation is a parsed command line.
type invocation struct {
	command string // demo or shell
	options lab.Options
	tnat64d string
	builtIn bool
}

var errHelp = errors.New("help requested")

// parse reads the command line.
func parse(args []string) (invocation, error) {
	if len(args) == 0 {
		return invocation{}, errors.New("say demo or shell")
	}
	inv := invocation{command: args[0]}
	switch inv.command {
	case "-h", "-help", "--help", "help":
		return inv, errHelp
	case "demo", "shell":
	default:
		return inv, fmt.Errorf("unknown command %q; there are demo and shell", inv.command)
	}
	fs := flag.NewFlagSet("tnat64-lab "+inv.command, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run prints the error, once
	fs.Func("pref64", "", func(s string) (err error) {
		inv.options.PREF64, err = parsePREF64(s)
		return err
	})
	fs.Func("network", "", func(s string) (err error) {
		inv.options.Kind, err = lab.ParseKind(s)
		return err
	})
	fs.IntVar(&inv.options.MTU, "mtu", 0, "")
	fs.IntVar(&inv.options.MTUISP, "mtu-isp", 0, "")
	fs.BoolVar(&inv.options.NativeIPv4, "native-ipv4", false, "")
	fs.StringVar(&inv.tnat64d, "tnat64d", "", "")
	fs.BoolVar(&inv.builtIn, "built-in", false, "")
	if err := fs.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return inv, errHelp
	} else if err != nil {
		return inv, err
	}
	if fs.NArg() > 0 {
		return inv, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return inv, inv.options.Check()
}

// parsePREF64 reads a prefix, or "/LENGTH" for the lab's example of that length.
func parsePREF64(s string) (netip.Prefix, error) {
	if length, ok := strings.CutPrefix(s, "/"); ok {
		bits, err := strconv.Atoi(length)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not a length", length)
		}
		return lab.PREF64OfLength(bits)
	}
	return netip.ParsePrefix(s)
}

// findDaemon returns the tnat64d to run: the one asked for, the one beside
// this program, or one on $PATH.
func findDaemon(asked string) (string, error) {
	if asked != "" {
		path, err := exec.LookPath(asked)
		if err != nil {
			return "", say.Hint(err, "-tnat64d wants the path of the tnat64d program; `make build` makes bin/tnat64d")
		}
		return filepath.Abs(path)
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), "tnat64d")); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("tnat64d")
	if err != nil {
		return "", say.Hint(errors.New("there is no tnat64d beside tnat64-lab or in $PATH"),
			"`make build` puts both into bin/; or say where it is with -tnat64d PATH")
	}
	return path, nil
}
