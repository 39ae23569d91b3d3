package packaging

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the packages are built as.
const (
	testVersion = "v1.2.3-rc1-4-g0123abc"
	testTime    = "1700000000" // 14 November 2023
)

// built are the packages for amd64.
type built struct {
	deb, rpm, arch string
	root           string // of the unpacked deb
}

var (
	buildOnce sync.Once
	buildDir  string
	theBuild  built
	buildErr  error
)

func TestMain(m *testing.M) {
	status := m.Run()
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(status)
}

// build builds the packages, once for all tests.
func build(t *testing.T) built {
	t.Helper()
	need(t, "go", "sh", "gzip", "dpkg-deb")
	if testing.Short() {
		t.Skip("builds packages, which takes a while")
	}
	if out, err := exec.Command("go", "env", "GOCACHE").Output(); err != nil {
		t.Fatal(err)
	} else if _, err := os.Stat(strings.TrimSpace(string(out))); errors.Is(err, fs.ErrNotExist) {
		t.Skip("builds packages: without Go's cache of an earlier build that takes minutes")
	}
	buildOnce.Do(func() {
		if buildDir, buildErr = os.MkdirTemp("", "tnat64-packages-"); buildErr == nil {
			theBuild, buildErr = buildFrom("..", filepath.Join(buildDir, "first"))
		}
		if buildErr == nil {
			theBuild.root = filepath.Join(buildDir, "root")
			buildErr = exec.Command("dpkg-deb", "-x", theBuild.deb, theBuild.root).Run()
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return theBuild
}

func buildFrom(source, dist string, env ...string) (built, error) {
	cmd := exec.Command("packaging/packages.sh", "amd64")
	cmd.Dir = source
	cmd.Env = append(append(os.Environ(), env...), "DIST="+dist, "VERSION="+testVersion, "SOURCE_DATE_EPOCH="+testTime)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return built{}, fmt.Errorf("packages.sh: %w\n%s", err, out)
	}
	const version = "1.2.3~rc1+4.g0123abc-1"
	b := built{
		deb:  filepath.Join(dist, "tnat64d_"+version+"_amd64.deb"),
		rpm:  filepath.Join(dist, "tnat64d-"+version+".x86_64.rpm"),
		arch: filepath.Join(dist, "tnat64d-"+strings.ReplaceAll(version, "~", "")+"-x86_64.pkg.tar.zst"),
	}
	for _, f := range []string{b.deb, b.rpm, b.arch} {
		if _, err := os.Stat(f); err != nil {
			return b, fmt.Errorf("%w, but %s", err, out)
		}
	}
	return b, nil
}

// contents of the Debian package, as `dpkg-deb -c` has them without directories.
const debContents = `-rw-r--r-- /etc/tnat64/tnat64d.toml
-rwxr-xr-x /usr/bin/tnat64-lab
-rwxr-xr-x /usr/bin/tnat64ctl
-rwxr-xr-x /usr/bin/tnat64d
-rw-r--r-- /usr/lib/NetworkManager/conf.d/90-tnat64.conf
-rwxr-xr-x /usr/lib/NetworkManager/dispatcher.d/50-tnat64
-rw-r--r-- /usr/lib/systemd/network/05-tnat64.network
-rw-r--r-- /usr/lib/systemd/system/tnat64d-cleanup.service
-rw-r--r-- /usr/lib/systemd/system/tnat64d.service
-rw-r--r-- /usr/lib/sysusers.d/tnat64.conf
-rw-r--r-- /usr/lib/udev/rules.d/80-tnat64.rules
lrwxrwxrwx /usr/share/bash-completion/completions/tnat64-lab
lrwxrwxrwx /usr/share/bash-completion/completions/tnat64ctl
-rw-r--r-- /usr/share/bash-completion/completions/tnat64d
-rw-r--r-- /usr/share/doc/tnat64d/README.md
-rw-r--r-- /usr/share/doc/tnat64d/SECURITY.md
-rw-r--r-- /usr/share/doc/tnat64d/changelog.Debian.gz
-rw-r--r-- /usr/share/doc/tnat64d/changelog.gz
-rw-r--r-- /usr/share/doc/tnat64d/copyright
-rw-r--r-- /usr/share/doc/tnat64d/examples/tnat64d.toml
-rw-r--r-- /usr/share/doc/tnat64d/third-party-notices.gz
lrwxrwxrwx /usr/share/fish/vendor_completions.d/tnat64-lab.fish
lrwxrwxrwx /usr/share/fish/vendor_completions.d/tnat64ctl.fish
-rw-r--r-- /usr/share/fish/vendor_completions.d/tnat64d.fish
-rw-r--r-- /usr/share/lintian/overrides/tnat64d
-rw-r--r-- /usr/share/man/man1/tnat64-lab.1.gz
-rw-r--r-- /usr/share/man/man1/tnat64ctl.1.gz
-rw-r--r-- /usr/share/man/man5/tnat64d.toml.5.gz
-rw-r--r-- /usr/share/man/man8/tnat64d.8.gz
-rw-r--r-- /usr/share/zsh/vendor-completions/_tnat64`

var listed = regexp.MustCompile(`(?m)^([-l][rwx-]{9})\S* +(?:[0-9]+ +)?(root/root|root +root|0/0|0 +0) .*?[0-9:]{4,5} +(?:\./|/)?([a-z]\S*)(?: -> .*)?$`)

// list reads a listing of tar's kind; everything must belong to root.
func list(text string) (files []string) {
	for _, m := range listed.FindAllStringSubmatch(text, -1) {
		mode := m[1]
		if mode[0] == 'l' { // of which only the target matters
			mode = "lrwxrwxrwx"
		}
		files = append(files, mode+" /"+m[3])
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(a[11:], b[11:]) })
	return files
}

func TestDebContents(t *testing.T) {
	b := build(t)
	text := output(t, "dpkg-deb", "-c", b.deb)
	if d := cmp.Diff(lines(debContents), list(text)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if files := strings.Count("\n"+text, "\n-") + strings.Count("\n"+text, "\nl"); files != len(list(text)) {
		t.Errorf("files that do not belong to root, or in an odd place:\n%s", text)
	}
	for _, line := range lines(text) {
		if !strings.Contains(line, " 2023-11-1") {
			t.Errorf("not from the commit's time: %s", line)
		}
	}
	for field, want := range map[string]string{"Version": "1.2.3~rc1+4.g0123abc-1", "Architecture": "amd64", "Package": "tnat64d"} {
		if got := strings.TrimSpace(output(t, "dpkg-deb", "-f", b.deb, field)); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
	if got := output(t, "dpkg-deb", "-I", b.deb, "conffiles"); got != "/etc/tnat64/tnat64d.toml\n" {
		t.Errorf("configuration files: %q", got)
	}
}

// The other formats hold the same, but for what is a matter of the distribution.
func TestRPMAndArchContents(t *testing.T) {
	b := build(t)
	need(t, "bsdtar")
	var want []string
	for _, f := range lines(debContents) {
		switch {
		case strings.Contains(f, "/lintian/"), strings.HasSuffix(f, "/copyright"), strings.HasSuffix(f, "/changelog.Debian.gz"):
		default:
			f = strings.Replace(f, "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
			f = strings.Replace(f, "/doc/tnat64d/third-party-", "/licenses/tnat64d/third-party-", 1)
			want = append(want, f)
		}
	}
	want = append(want, "-rw-r--r-- /usr/share/licenses/tnat64d/LICENSE")
	slices.SortFunc(want, func(a, b string) int { return strings.Compare(a[11:], b[11:]) })
	for _, file := range []string{b.rpm, b.arch} {
		if d := cmp.Diff(want, list(output(t, "bsdtar", "-tvf", file))); d != "" {
			t.Errorf("%s: (-want +got)\n%s", filepath.Base(file), d)
		}
	}
	info := output(t, "bsdtar", "-xOf", b.arch, ".PKGINFO")
	for _, line := range []string{"pkgname = tnat64d", "arch = x86_64", "backup = etc/tnat64/tnat64d.toml"} {
		if !slices.Contains(lines(info), line) {
			t.Errorf(".PKGINFO has no %q:\n%s", line, info)
		}
	}
}

// The programs are static and stripped, and know nothing of the machine that
// built them.
func TestPrograms(t *testing.T) {
	bin := filepath.Join(build(t).root, "usr", "bin")
	here, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	home, _ := os.UserHomeDir()
	for _, name := range []string{"tnat64d", "tnat64ctl", "tnat64-lab"} {
		data := []byte(readFile(t, filepath.Join(bin, name)))
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("%s is linked dynamically", name)
			}
		}
		for _, s := range []string{".symtab", ".debug_info"} {
			if f.Section(s) != nil {
				t.Errorf("%s is not stripped: %s", name, s)
			}
		}
		for _, path := range []string{here + "/", filepath.Join(home, "go") + "/", os.TempDir() + "/go-build"} {
			if bytes.Contains(data, []byte(path)) {
				t.Errorf("%s contains %s", name, path)
			}
		}
	}
	if v := output(t, filepath.Join(bin, "tnat64d"), "-version"); !strings.HasPrefix(v, "tnat64d "+testVersion+" ") {
		t.Errorf("version %q", v)
	}
}

// The same sources give the same packages, whatever the directory, the times of
// files, the umask and the time zone are.
func TestReproducible(t *testing.T) {
	first := build(t)
	t.Parallel()
	source := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", `cd .. && umask 077 && tar -c --exclude=./.git --exclude=./bin --exclude=./dist . | tar -x -m --no-same-permissions -C "$1"`, "sh", source).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v\n%s", err, out)
	}
	second, err := buildFrom(source, filepath.Join(source, "dist"), "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8")
	if err != nil {
		t.Fatal(err)
	}
	for a, b := range map[string]string{first.deb: second.deb, first.rpm: second.rpm, first.arch: second.arch} {
		if readFile(t, a) != readFile(t, b) {
			t.Errorf("%s is another one when it is built elsewhere", filepath.Base(a))
		}
	}
}

func TestLintian(t *testing.T) {
	b := build(t)
	if _, err := exec.LookPath("lintian"); err != nil {
		t.Skip("needs lintian: ", err)
	}
	t.Parallel()
	// As root it complains about that.
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", b.deb).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestScriptsAreShell(t *testing.T) {
	scripts, err := filepath.Glob("*.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"deb/p*", "shim/p*", "gateway/p*", "test-vm/*.sh", "networkmanager/50-*"} {
		more, _ := filepath.Glob(pattern)
		scripts = append(scripts, more...)
	}
	need(t, "shellcheck")
	output(t, "shellcheck", append([]string{"-S", "warning"}, scripts...)...)
	// rpm and pacman run these without a first line.
	parts, _ := filepath.Glob("rpm/*")
	more, _ := filepath.Glob("arch/*")
	output(t, "shellcheck", append([]string{"-S", "warning", "-s", "sh", "-e", "SC2148"}, append(parts, more...)...)...)
	output(t, "shellcheck", "-s", "bash", "completions/tnat64.bash", "completions/tnat64-command.bash", "completions/tnat64-gateway.bash")
}

// The other shells parse their completions, where they are installed.
func TestCompletionsParse(t *testing.T) {
	for shell, files := range map[string][]string{
		"bash": {"completions/tnat64.bash", "completions/tnat64-command.bash", "completions/tnat64-gateway.bash"},
		"zsh":  {"completions/_tnat64", "completions/_tnat64-command", "completions/_tnat64-gateway"},
		"fish": {"completions/tnat64.fish", "completions/tnat64-command.fish", "completions/tnat64-gateway.fish"},
	} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip(err)
			}
			for _, file := range files {
				output(t, shell, "-n", file)
			}
		})
	}
}
