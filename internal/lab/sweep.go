package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// Every lab has an id "tn64-PID-START-N": the process that owns it, when that
// process started (a pid may be used again), and a number of its own within
// the process. Names of namespaces and of the state directory begin with it.
const idPrefix = "tn64-"

// stateRoot holds a directory for each lab: configuration and socket of the
// daemon under test.
const stateRoot = "/run/tnat64-lab"

// makeState creates a lab's directory. Another lab that closes may remove the
// empty parent between the two steps.
func makeState(dir string) (err error) {
	for range 10 {
		if err = os.MkdirAll(dir, 0o755); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return err
}

var labsOfThisProcess atomic.Int32

func newID() (string, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%d-%s-%d", idPrefix, os.Getpid(), strconv.FormatUint(start, 36), labsOfThisProcess.Add(1)), nil
}

// startTime returns when the process started, in clock ticks since boot (field
// 22 of /proc/PID/stat).
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses and may itself
	// contain spaces and parentheses.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// ownerIsGone reports whether name belongs to a lab whose process has ended.
func ownerIsGone(name string) bool {
	rest, ours := strings.CutPrefix(name, idPrefix)
	parts := strings.SplitN(rest, "-", 3)
	if !ours || len(parts) < 3 {
		return false
	}
	pid, err := strconv.Atoi(parts[0])
	if err != nil {
		return false
	}
	start, err := strconv.ParseUint(parts[1], 36, 64)
	if err != nil {
		return false
	}
	now, err := startTime(pid)
	return errors.Is(err, os.ErrNotExist) || err == nil && now != start
}

// Sweep removes what labs have left whose process was killed, and returns the
// names of the namespaces it removed. New calls it.
func Sweep() (removed []string, err error) {
	var errs []error
	for _, name := range names(namedNamespaces) {
		if !ownerIsGone(name) {
			continue
		}
		if err := removeNamespace(name); err != nil {
			errs = append(errs, fmt.Errorf("remove leftover namespace %q: %w", name, err))
			continue
		}
		removed = append(removed, name)
	}
	for _, name := range names(stateRoot) {
		if ownerIsGone(name) {
			errs = append(errs, os.RemoveAll(filepath.Join(stateRoot, name)))
		}
	}
	return removed, errors.Join(errs...)
}

// names lists a directory; one that is not there is empty.
func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
