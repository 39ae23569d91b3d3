package main

import (
	"bufio"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// notice matches the names of files with terms that must come with a program.
var notice = regexp.MustCompile(`(?i)^(licen[cs]es?|copying|copyright|notice|patents)([-._].*)?$`)

// license matches those of them without which a module may not be used.
var license = regexp.MustCompile(`(?i)^(licen[cs]es?|copying)([-._].*)?$`)

// notText are files of such a name that are something else.
var notText = regexp.MustCompile(`(?i)\.(go|s|h|c|sh|py|json|ya?ml)$`)

// text is a notice and where it was found: many modules have the same.
type text struct {
	content string
	of      []string // "module version: file", sorted
}

// texts reads the notices of all modules. A module without a licence in its
// root directory is an error.
func (l linked) texts() ([]text, error) {
	where := make(map[string][]string)
	for m, s := range l {
		licensed := false
		for _, dir := range s.upwards() {
			entries, err := os.ReadDir(dir)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m, err)
			}
			for _, e := range entries {
				if !e.Type().IsRegular() || !notice.MatchString(e.Name()) || notText.MatchString(e.Name()) {
					continue
				}
				b, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", m, err)
				}
				name, err := filepath.Rel(s.root, filepath.Join(dir, e.Name()))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", m, err)
				}
				content := tidy(string(b))
				where[content] = append(where[content], fmt.Sprintf("%s: %s", m, name))
				licensed = licensed || dir == s.root && license.MatchString(e.Name())
			}
		}
		if !licensed {
			return nil, fmt.Errorf("%s: no licence in %s", m, s.root)
		}
	}
	var all []text
	for content, of := range where {
		slices.Sort(of)
		all = append(all, text{content, of})
	}
	slices.SortFunc(all, func(a, b text) int { return cmp.Compare(a.of[0], b.of[0]) })
	return all, nil
}

// upwards returns the directories in use and those above them within the
// module.
func (s *source) upwards() []string {
	dirs := map[string]bool{s.root: true}
	for dir := range s.dirs {
		for ; dir != s.root && strings.HasPrefix(dir, s.root+string(filepath.Separator)); dir = filepath.Dir(dir) {
			dirs[dir] = true
		}
	}
	return slices.Sorted(maps.Keys(dirs))
}

// tidy makes line ends and the space around a text those of all.
func tidy(s string) string {
	return strings.Trim(strings.ReplaceAll(s, "\r\n", "\n"), "\n") + "\n"
}

// write writes each text once, below the names of those whose it is.
func write(w *bufio.Writer, texts []text) {
	rule := strings.Repeat("=", 78)
	fmt.Fprintln(w, "The programs of this package contain the software below, each under its own\nterms. The licence of tnat64d itself is Apache-2.0.")
	for _, t := range texts {
		fmt.Fprintf(w, "\n%s\n%s\n%s\n\n%s", rule, strings.Join(t.of, "\n"), rule, t.content)
	}
}
