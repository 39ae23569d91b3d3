package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/cmd/tnat64ctl/doctor"
	"tnat64d/cmd/tnat64ctl/mask"
	"tnat64d/internal/control"
	"tnat64d/internal/say"
)

const reportUsage = `usage: tnat64ctl [-socket PATH] report [-log LOG] [-lines COUNT] [FILE]

Writes a text file for a bug report: versions, status, doctor, and the last
lines of the daemon's log. It masks IPv6 addresses beyond their /48, IPv4 and
MAC addresses, names of hosts, users, domains and networks, values that a
message quotes from the configuration, unusual interface names, and unusual
paths. FILE is created with mode 0600; - is standard output; default:
tnat64-report.txt.

Run it as root to include what only root may see. Read the file before you
publish it.

flags:
`

const (
	defaultReport = "tnat64-report.txt"
	examineLimit  = time.Minute      // for doctor
	journalLimit  = 20 * time.Second // for journalctl
	maxLogLine    = 2000             // bytes
	maxLogLines   = 5000
)

// version is set by the Makefile to what git says.
var version = "(devel)"

// runReport is the subcommand report.
func runReport(socket string, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("tnat64ctl report")
	log := flags.String("log", os.Getenv(control.LogVariable), "file with the daemon's `LOG`; without one: the journal of tnat64d.service")
	lines := flags.Int("lines", 200, "`COUNT` of the log's last lines to include, at most 5000")
	const hint = "tnat64ctl report -h describes the command"
	if err := flags.Parse(args); err != nil {
		return badFlags(err, stdout, hint, func(w io.Writer) {
			fmt.Fprint(w, reportUsage)
			printFlags(w, flags)
		})
	}
	switch {
	case flags.NArg() > 1:
		return say.Hint(say.Usage(fmt.Errorf("unexpected argument %q", flags.Arg(1))), hint)
	case *lines < 0 || *lines > maxLogLines:
		return say.Usage(fmt.Errorf("-lines %d is not between 0 and %d", *lines, maxLogLines))
	}
	ctx, stop := untilInterrupted()
	defer stop()
	sections := []section{
		{"versions", versions()},
		{"status", statusSection(ctx, socket)},
		{"doctor", doctorSection(ctx, socket)},
		{fmt.Sprintf("log, last %d lines", *lines), logSection(ctx, *log, *lines)},
	}
	if err := ctx.Err(); err != nil {
		return errors.New("interrupted; wrote no report")
	}
	text := reportText(sections, privateWords(), linkNames())

	name := flags.Arg(0)
	switch name {
	case "-":
		_, err := io.WriteString(stdout, text)
		return err
	case "":
		name = defaultReport
	}
	f, err := createPrivate(ctx, name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	_, err = fmt.Fprintf(stdout, "Wrote %s. Read it before you publish it: it may contain names that are not host names.\n", name)
	return err
}

// section is a part of a report.
type section struct{ title, text string }

// reportText returns the masked sections as one text. The words and names of
// interfaces are masked wherever they occur.
func reportText(sections []section, words, links []string) string {
	var m mask.Masker
	m.Hide(words...)
	m.HideLinks(links...)
	// All at once, so that a prefix in one section tells how to mask addresses
	// in another.
	var b strings.Builder
	b.WriteString("tnat64d report\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n== %s ==\n\n%s\n", s.title, strings.TrimRight(s.text, "\n"))
	}
	return m.Text(b.String())
}

// versions describes this program and the system.
func versions() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tnat64ctl %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		fmt.Fprintf(&b, "%s %s\n", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]))
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return b.String()
	}
	for line := range strings.Lines(string(release)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			if unquoted, err := strconv.Unquote(name); err == nil {
				name = unquoted
			}
			b.WriteString(name + "\n")
		}
	}
	return b.String()
}

// statusSection is what status prints, or why it prints nothing.
func statusSection(ctx context.Context, socket string) string {
	s, err := control.NewClient(socket).Status(ctx)
	if err != nil {
		return "not available: " + err.Error()
	}
	return statusText(s, time.Now())
}

// doctorSection is what doctor prints, or why it prints nothing.
func doctorSection(ctx context.Context, socket string) string {
	ctx, cancel := context.WithTimeout(ctx, examineLimit)
	defer cancel()
	findings, err := doctor.Examine(ctx, doctor.Options{Socket: socket})
	if err != nil {
		return "not available: " + err.Error()
	}
	var b strings.Builder
	doctor.NewReport(findings).Print(&b) // a Builder takes everything
	return b.String()
}

// logFile is the last lines of a file, which may be a named pipe without a writer:
// the wait for it ends with ctx.
func logFile(ctx context.Context, name string, lines int) string {
	done := make(chan string, 1)
	go func() {
		f, err := os.Open(name)
		if err != nil {
			done <- "not available: " + err.Error()
			return
		}
		defer f.Close()
		done <- lastLines(f, lines)
	}()
	select {
	case text := <-done:
		return text
	case <-ctx.Done():
		return "not available: " + context.Cause(ctx).Error()
	}
}

// logSection is the last lines of the daemon's log, or why there are none.
func logSection(ctx context.Context, name string, lines int) string {
	if lines == 0 {
		return "left out"
	}
	if name != "" {
		return logFile(ctx, name, lines)
	}
	ctx, cancel := context.WithTimeout(ctx, journalLimit)
	defer cancel()
	journal := exec.CommandContext(ctx, "journalctl", "--unit=tnat64d.service", "--no-hostname", "--output=short-iso", "--no-pager", "--quiet", fmt.Sprint("--lines=", lines))
	var complaint strings.Builder
	journal.Stderr = &complaint
	out, err := journal.Output()
	switch {
	case err != nil:
		return "not available: journalctl: " + err.Error() + "\n" + complaint.String()
	case len(out) == 0:
		return "the journal shows this user no messages of tnat64d.service"
	}
	return lastLines(strings.NewReader(string(out)), lines)
}

// lastLines returns the last n lines that r has, each cut to maxLogLine bytes.
func lastLines(r io.Reader, n int) string {
	last := make([]string, 0, n)
	buffered := bufio.NewReaderSize(r, maxLogLine)
	for {
		line, err := buffered.ReadSlice('\n')
		kept := strings.TrimRight(string(line), "\n")
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = buffered.ReadSlice('\n')
		}
		if kept != "" {
			if len(last) == n {
				last = append(last[:0], last[1:]...)
			}
			last = append(last, kept)
		}
		if err != nil {
			return strings.Join(last, "\n")
		}
	}
}
