package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"tnat64d/clat"
	"tnat64d/clat/host"
	"tnat64d/datapath/steer"
	"tnat64d/internal/say"
)

// cleanUpAfter removes what the kernel keeps of a tnat64d that has ended without
// doing so: with its last descriptor, which systemd closes, go TUN and programs only.
// The unit runs it after each end of the daemon (ExecStopPost=).
func cleanUpAfter(ctx context.Context, log *slog.Logger, stderr *os.File) int {
	if restartFollows(ctx, os.Getenv) {
		return say.StatusOK
	}
	if err := cleanUpOnce(log); err != nil {
		return say.Fail(stderr, "tnat64d", err)
	}
	return say.StatusOK
}

func cleanUpOnce(log *slog.Logger) error {
	path, err := clat.JournalPath(runtimeDir())
	if err != nil {
		return err
	}
	j, err := clat.OpenJournal(path)
	if errors.Is(err, clat.ErrRunning) {
		return nil // it is all in use
	}
	if err != nil {
		return err
	}
	defer j.Close()
	kernel, err := host.New(steer.NewPrograms().Foreign)
	if err != nil {
		return err
	}
	defer kernel.Close()
	removeLeft(kernel, j, log)
	cleanUp(kernel, nil, log)
	openMemory(nil, log).close()
	return nil
}

// restartFollows reports whether systemd starts the daemon again, by a job or
// because it has crashed, so that the next process goes on with what there is. env
// tells how it ended (systemd.exec(5)). Where it is wrong the next start cleans up.
func restartFollows(ctx context.Context, env func(string) string) bool {
	if env("SERVICE_RESULT") == "" {
		return false // systemd has not run this
	}
	unit, err := askSystemd(ctx)
	switch {
	case err == nil && unit.Restarting:
		return true
	case err == nil && unit.Stopping:
		return false
	}
	if env("EXIT_CODE") != "exited" {
		return env("SERVICE_RESULT") != "success" // killed, by a signal that is no request to end
	}
	return env("EXIT_STATUS") != "0" && env("EXIT_STATUS") != "2" // see RestartPreventExitStatus=
}
