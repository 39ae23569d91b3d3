package packaging

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	manualOfFile = "man/tnat64d.toml.5.md"
	example      = "tnat64d.toml.example"
)

// entry is a key as the manual or the example has it.
type entry struct {
	key   string // "clat.enable"
	value string // of the example; of the manual the default, or ""
}

var (
	manualTable   = regexp.MustCompile(`^# TABLES? \[+([a-z.]+)\]+$`)
	manualKey     = regexp.MustCompile(`^\*\*([a-z0-9-]+)\*\* = `)
	manualDefault = regexp.MustCompile("Default: `([^`]*)`")

	exampleTable = regexp.MustCompile(`^#\[+([a-z.]+)\]+$`)
	exampleKey   = regexp.MustCompile(`^#([a-z0-9-]+) = (.*)$`)
)

// manualKeys reads the entries of the tables' sections, in order.
func manualKeys(t *testing.T) (entries []entry) {
	table := ""
	for _, line := range lines(readFile(t, manualOfFile)) {
		switch m := manualTable.FindStringSubmatch(line); {
		case m != nil:
			table = m[1]
		case strings.HasPrefix(line, "# "):
			table = ""
		case table == "":
		case manualKey.MatchString(line):
			entries = append(entries, entry{key: table + "." + manualKey.FindStringSubmatch(line)[1]})
		default:
			if m := manualDefault.FindStringSubmatch(line); m != nil && len(entries) > 0 {
				entries[len(entries)-1].value = m[1]
			}
		}
	}
	return entries
}

// exampleKeys reads those of the example, of which internal/config's own
// test knows that they are exactly the keys of the code.
func exampleKeys(t *testing.T) (entries []entry) {
	table := ""
	for _, line := range lines(readFile(t, example)) {
		if m := exampleTable.FindStringSubmatch(line); m != nil {
			table = m[1]
		} else if m := exampleKey.FindStringSubmatch(line); m != nil {
			entries = append(entries, entry{table + "." + m[1], m[2]})
		}
	}
	return entries
}

func TestManualHasEveryKeyOnce(t *testing.T) {
	keys := func(entries []entry) (list []string) {
		for _, e := range entries {
			list = append(list, e.key)
		}
		return list
	}
	if d := cmp.Diff(keys(exampleKeys(t)), keys(manualKeys(t))); d != "" {
		t.Errorf("(-keys of the example +keys of the manual)\n%s", d)
	}
}

// The example shows defaults (which internal/config's test knows as well),
// so the manual and the example must agree.
func TestManualDefaults(t *testing.T) {
	values := map[string]string{}
	for _, e := range exampleKeys(t) {
		values[e.key] = e.value
	}
	shown := 0
	for _, e := range manualKeys(t) {
		if e.value == "" {
			continue
		}
		shown++
		if e.value != values[e.key] {
			t.Errorf("%s: the manual's default is %s, the example's %s", e.key, e.value, values[e.key])
		}
	}
	if shown < 10 {
		t.Errorf("only %d defaults found: does this test still read the manual?", shown)
	}
}

func TestManualExamplesParse(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(readFile(t, manualOfFile), -1)
	if len(blocks) == 0 {
		t.Fatal("no examples")
	}
	daemon := filepath.Join(build(t).root, "usr", "bin", "tnat64d")
	for _, b := range blocks {
		file := filepath.Join(t.TempDir(), "tnat64d.toml")
		if err := os.WriteFile(file, []byte(b[1]), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := output(t, daemon, "-check", "-config", file); strings.Contains(out, "level=WARN") {
			t.Errorf("%s of\n%s", out, b[1])
		}
	}
}

func TestManualPagesAreComplete(t *testing.T) {
	pages, err := filepath.Glob("man/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		text := readFile(t, page)
		name, section := strings.TrimSuffix(filepath.Base(page), ".md"), ""
		name, section = name[:len(name)-2], name[len(name)-1:]
		if first := lines(text)[0]; !strings.HasPrefix(first, "% "+strings.ToUpper(name)+" "+section+" ") {
			t.Errorf("%s begins with %q", page, first)
		}
		for _, heading := range []string{"# NAME", "# DESCRIPTION", "# EXAMPLES", "# SEE ALSO"} {
			if !slices.Contains(lines(text), heading) {
				t.Errorf("%s has no %s", page, heading)
			}
		}
		for _, other := range regexp.MustCompile(`\*\*(tnat64[a-z.-]*)\*\*\(([0-9])\)`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(pages, "man/"+other[1]+"."+other[2]+".md") {
				t.Errorf("%s refers to %s(%s), which there is not", page, other[1], other[2])
			}
		}
	}
}

// flags that a command's -h lists, one or more at the beginning of a line.
func flags(help string) (found []string) {
	seen := map[string]bool{}
	for _, line := range lines(help) {
		if !strings.HasPrefix(line, "  -") {
			continue
		}
		for _, f := range regexp.MustCompile(`(?:^ |,) (-[a-z][a-z0-9-]*)`).FindAllStringSubmatch(line, -1) {
			seen[f[1]] = true
		}
	}
	delete(seen, "-h")
	return slices.Sorted(maps.Keys(seen))
}

// subcommands of tnat64ctl, as it lists them.
func subcommands(help string) (found []string) {
	_, list, _ := strings.Cut(help, "\ncommands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for _, line := range lines(list) {
		found = append(found, strings.Fields(line)[0])
	}
	return found
}

// TestFlagsEverywhere compares what the programs say of themselves with the
// manual and with what bash completes.
func TestFlagsEverywhere(t *testing.T) {
	bin := filepath.Join(build(t).root, "usr", "bin")
	check := func(page, where string, wanted []string, completed []string) {
		t.Helper()
		text := readFile(t, page)
		for _, w := range wanted {
			if !strings.Contains(text, "**"+w+"**") {
				t.Errorf("%s: %s does not explain %s", page, where, w)
			}
			if !slices.Contains(completed, w) {
				t.Errorf("%s: bash does not complete %s, but %q", where, w, completed)
			}
			for _, file := range []string{"completions/_tnat64", "completions/tnat64.fish"} {
				if !strings.Contains(readFile(t, file), strings.TrimPrefix(w, "-")) {
					t.Errorf("%s: %s does not know %s", where, file, w)
				}
			}
		}
		for _, c := range completed {
			if c != "-h" && !slices.Contains(wanted, c) {
				t.Errorf("%s: bash completes %s, which there is not", where, c)
			}
		}
	}
	check("man/tnat64d.8.md", "tnat64d", flags(output(t, bin+"/tnat64d", "-h")), complete(t, "tnat64d"))

	help := output(t, bin+"/tnat64ctl", "-h")
	names := subcommands(help)
	check("man/tnat64ctl.1.md", "tnat64ctl", append(names, "-socket", "-gateway"), complete(t, "tnat64ctl"))
	for _, name := range names {
		check("man/tnat64ctl.1.md", "tnat64ctl "+name, flags(output(t, bin+"/tnat64ctl", name, "-h")), complete(t, "tnat64ctl", name))
	}

	all := flags(output(t, bin+"/tnat64-lab", "-h"))
	completed := append(complete(t, "tnat64-lab", "demo"), complete(t, "tnat64-lab", "bench")...)
	check("man/tnat64-lab.1.md", "tnat64-lab", all, completed)
}

// complete is what bash offers after some words; files are not.
func complete(t *testing.T, words ...string) []string {
	t.Helper()
	need(t, "bash")
	script := `source completions/tnat64.bash; cd /var/empty 2>/dev/null || cd "$(mktemp -d)"
COMP_WORDS=("$@" ""); COMP_CWORD=$#; _tnat64; printf '%s\n' "${COMPREPLY[@]}"`
	return strings.Fields(output(t, "bash", append([]string{"-c", script, "bash"}, words...)...))
}
