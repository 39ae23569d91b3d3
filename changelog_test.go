package tnat64d

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestChangelog holds CHANGELOG.md to the format of Keep a Changelog 1.1.0:
// every entry is in a section of a version.
func TestChangelog(t *testing.T) {
	text, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range changelogFaults(string(text)) {
		t.Error(fault)
	}
}

func changelogFaults(text string) (faults []string) {
	sections := []string{"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
	var section string
	var seen []string // sections of the version
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		name, isSection := strings.CutPrefix(line, "### ")
		entry, isEntry := strings.CutPrefix(line, "* ")
		switch {
		case strings.HasPrefix(line, "## "):
			section, seen = "", nil
		case isSection && !slices.Contains(sections, name):
			faults = append(faults, "section "+name+": want one of "+strings.Join(sections, ", "))
		case isSection && slices.Contains(seen, name):
			faults = append(faults, "section "+name+" occurs twice in a version")
		case isSection:
			section, seen = name, append(seen, name)
		case isEntry && section == "":
			faults = append(faults, "entry outside of a section: "+entry)
		case isEntry && strings.HasPrefix(entry, "["):
			faults = append(faults, "entry with a tag: the section says what kind of change it is: "+entry)
		case strings.HasPrefix(line, "<<<<<<<"), strings.HasPrefix(line, ">>>>>>>"), line == "=======":
			faults = append(faults, "mark of a merge conflict")
		}
	}
	return faults
}

func TestChangelogFaults(t *testing.T) {
	for text, want := range map[string]string{
		"## Unreleased\n\n### Added\n\n* A.\n\n### Fixed\n\n* B.\n\n## 1.0.0\n\n### Added\n\n* C.\n": "",
		"## Unreleased\n\n* A.\n":                                   "outside of a section",
		"## Unreleased\n\n### Added\n\n* [BUGFIX] A.\n":             "with a tag",
		"## Unreleased\n\n### Bugs\n\n* A.\n":                       "section Bugs",
		"## Unreleased\n\n### Added\n\n### Added\n":                 "occurs twice",
		"## Unreleased\n\n### Added\n\n<<<<<<< main\n* A.\n=======": "merge conflict",
	} {
		got := strings.Join(changelogFaults(text), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
