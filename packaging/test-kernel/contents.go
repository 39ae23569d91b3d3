package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tnat64d/packaging/test-kernel/guest"
)

// programs of the machine that tests run. They and the libraries that they
// need come along.
var programs = []string{
	"sh", "cat", "cp", "grep", "mount", "seq", "sleep", "true", // of the tests' scripts
	"ip", "setpriv", "unshare",
	"curl", "dig", "iperf3", "ping", "traceroute", "pppd", "wg", "dbus-daemon",
}

// commands are built and stand in /usr/local/bin.
var commands = []string{"cmd/tnat64d", "cmd/tnat64ctl", "cmd/tnat64-lab"}

// goStandIn is there for tests that build commands.
//
//go:embed go.sh
var goStandIn []byte

// testTimeout bounds the tests of one package, in time to say what hangs.
const testTimeout = "30m"

// testFlags are flags of the test binaries.
type testFlags struct {
	run   string // instead of the suite's
	count int
}

// build writes an initramfs with the tests; dir is for what is compiled.
func build(ctx context.Context, dir, initramfs string, k kernel, p platform, u userland, chosen []suite, tests testFlags) error {
	root, err := goOutput(ctx, p.arch, "", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	root = strings.TrimSpace(root)
	if err := compile(ctx, p.arch, root, dir, directories(chosen)); err != nil {
		return err
	}
	f, err := os.Create(initramfs)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	a := newArchive(w)
	plan := guest.Plan{Events: p.events, Env: []string{
		"PATH=/usr/local/bin:/usr/bin", "HOME=/root", "LC_ALL=C", "TNAT64_REQUIRE_PRIVILEGED=1",
	}}
	for _, s := range chosen {
		if tests.run != "" {
			s.run = tests.run
		}
		args := []string{
			"-test.v=test2json", "-test.short", "-test.timeout=" + testTimeout,
			"-test.run=" + s.run, "-test.skip=" + s.skip, fmt.Sprint("-test.count=", tests.count),
		}
		if s.parallel > 0 {
			args = append(args, fmt.Sprint("-test.parallel=", s.parallel))
		}
		plan.Jobs = append(plan.Jobs, guest.Job{Name: s.name, Dir: s.dir, Args: args})
	}
	if plan.Modules, err = addModules(a, k); err != nil {
		return err
	}
	data, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	return errors.Join(
		a.file(guest.PlanPath, 0o644, data),
		addSystem(a, dir),
		u.addPrograms(ctx, a),
		addTests(a, root, dir, directories(chosen)),
		a.close(),
		w.Flush(),
	)
}

// compile builds init, the commands and the test binaries into dir.
func compile(ctx context.Context, arch, root, dir string, tested []string) error {
	for _, sub := range []string{"commands", "tests"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	args := []string{"build", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, "commands") + "/", "./packaging/test-kernel/init"}
	if _, err := goOutput(ctx, arch, root, append(args, relative(commands)...)...); err != nil {
		return err
	}
	args = []string{"test", "-c", "-ldflags=-s -w", "-o", filepath.Join(dir, "tests") + "/"}
	_, err := goOutput(ctx, arch, root, append(args, relative(tested)...)...)
	return err
}

func relative(dirs []string) (paths []string) {
	for _, d := range dirs {
		paths = append(paths, "./"+d)
	}
	return paths
}

func goOutput(ctx context.Context, arch, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	return output(cmd)
}

// addSystem adds init and what makes a system of the rest.
func addSystem(a *archive, dir string) error {
	errs := []error{
		a.directory("/root"),
		a.file("/etc/ppp/options", 0o644, nil), // pppd does not start without it
		a.file("/etc/resolv.conf", 0o644, nil), // on which the lab mounts that of a host
		a.file("/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n")),
		a.file("/etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")),
		a.file("/usr/local/bin/go", 0o755, goStandIn),
		a.link("/bin", "usr/bin"),
		a.link("/sbin", "usr/bin"),
		// The kernel opens it for init before anything is mounted.
		a.device("/dev/console", 5, 1),
		a.copy("/init", filepath.Join(dir, "commands", "init")),
	}
	for _, c := range commands {
		name := path.Base(c)
		errs = append(errs, a.copy("/usr/local/bin/"+name, filepath.Join(dir, "commands", name)))
	}
	return errors.Join(errs...)
}

// addPrograms adds programs and their shared libraries.
func (u userland) addPrograms(ctx context.Context, a *archive) error {
	added := map[string]bool{}
	for _, name := range programs {
		file, err := u.find(name)
		if err != nil {
			return err
		}
		libraries, err := u.libraries(ctx, file)
		if err != nil {
			return err
		}
		if err := a.copy("/usr/bin/"+name, u.root+file); err != nil {
			return err
		}
		for _, l := range libraries {
			if added[l] {
				continue
			}
			added[l] = true
			if err := a.copy(l, u.root+l); err != nil {
				return err
			}
		}
	}
	return nil
}

// find returns the path of a program in the userland.
func (u userland) find(name string) (string, error) {
	if u.root == "" {
		return exec.LookPath(name)
	}
	names := []string{name}
	if name == "sh" {
		names = append(names, "dash") // a link that its package makes when it is installed
	}
	for _, n := range names {
		// What Debian chooses among alternatives when packages are installed.
		for _, n := range []string{n, n + ".db"} {
			for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"} {
				if file, err := filepath.EvalSymlinks(u.root + dir + n); err == nil {
					return strings.TrimPrefix(file, u.root), nil
				}
			}
		}
	}
	return "", fmt.Errorf("%s: no program in %s", name, u.root)
}

// addModules adds kernel modules and returns their paths, in the order in which
// they can be loaded.
func addModules(a *archive, k kernel) (names []string, err error) {
	modules, err := loadOrder(k.modules, wanted)
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		name := "/lib/modules/" + m.name + ".ko"
		if err := a.file(name, 0o644, m.data); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// addTests adds test binaries, each where it finds its testdata. The testdata
// of all packages comes along, as some tests use those of others.
func addTests(a *archive, root, dir string, tested []string) error {
	for _, t := range tested {
		if err := a.copy(guest.Sources+t+"/test", filepath.Join(dir, "tests", path.Base(t)+".test")); err != nil {
			return err
		}
	}
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil || !slices.Contains(strings.Split(name, "/"), "testdata") {
			return err
		}
		return a.copy(guest.Sources+name, file)
	})
}

// copy adds a file of this machine.
func (a *archive) copy(name, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return a.file(name, int(info.Mode().Perm()), data)
}
