package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// boot runs a kernel in qemu until it powers off, or the context ends. Its first
// serial port is the console, on the second init reports; r reads both.
func boot(ctx context.Context, k kernel, p platform, initramfs string, r *report) error {
	console, consoleEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	defer console.Close()
	defer consoleEnd.Close()
	events, eventsEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	defer events.Close()
	defer eventsEnd.Close()

	args := slices.Concat(p.qemu[1:], []string{
		// Some tests build a dozen labs at once, which takes more than 1 GB.
		"-m", "2048", "-smp", "2",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		// Hardware acceleration is not to be had in many places where tests
		// run, and hangs in others. One thread for both CPUs: with a thread
		// for each, qemu (7.2, 8.0) now and then runs stale code where the
		// kernel patches a static key, and that CPU never leaves
		// asm_exc_int3 (bugzilla.redhat.com/2216496).
		"-accel", "tcg,thread=single", "-cpu", p.cpu,
		"-kernel", k.image, "-initrd", initramfs, "-append", "console=" + p.console + " " + commandLine + " -- " + strings.Join(r.suites, " "),
	}, p.serial)
	cmd := exec.CommandContext(ctx, p.qemu[0], args...)
	cmd.ExtraFiles = []*os.File{consoleEnd, eventsEnd}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	consoleEnd.Close()
	eventsEnd.Close()
	read := make(chan struct{})
	go func() {
		r.readConsole(console)
		close(read)
	}()
	r.readEvents(events)
	<-read
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}

// commandLine is the kernel's; what follows " -- " are arguments of init. A panic is the end, and an oops is a panic. What
// protects against speculative execution costs two thirds of the speed and
// protects nobody here; not "mitigations=off", because from Linux 6.7 on the BPF
// verifier takes that as leave to be less strict. Page tables of five levels are
// slow as well, and watchdogs would bark at a machine that is merely busy, and so
// would the check at boot that the timer's interrupt comes in time.
const commandLine = "loglevel=5 panic=-1 oops=panic nowatchdog no_timer_check no5lvl " +
	"spectre_v2=off spec_store_bypass_disable=off retbleed=off pti=off"
