package main

import (
	"log/slog"
	"time"

	"tnat64d/internal/daemon"
)

// stepLimit is how long loading one set of BPF programs may take. On an emulated
// machine with an eighth of a CPU the verifier takes some minutes.
const stepLimit = 10 * time.Minute

// extend tells systemd that a step begins which may take until stepLimit, during
// which the loop answers nothing. The caller calls over when the step is over.
func extend(log *slog.Logger) (over func()) { return daemon.Extend(log, stepLimit) }
