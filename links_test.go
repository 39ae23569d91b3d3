package tnat64d

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	codeBlock  = regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`")
	inlineLink = regexp.MustCompile(`\]\(([^()\s]+)(?:\s+"[^"]*")?\)`)
	attribute  = regexp.MustCompile(`(?:src|href|srcset)="([^"]+)"`)
	definition = regexp.MustCompile(`(?m)^\[[^\]]+\]:\s+(\S+)`)
	heading    = regexp.MustCompile(`(?m)^#+ +(.+?) *$`)
	notAnchor  = regexp.MustCompile(`[^\pL\pN _-]`)
)

// TestLinks holds every page to links that lead to files, and to headings in
// them, that exist.
func TestLinks(t *testing.T) {
	for _, page := range files(t, ".md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links(string(text)) {
			if why := broken(page, link); why != "" {
				t.Errorf("%s: link %q: %s", page, link, why)
			}
		}
	}
}

// links returns the targets of all links in a Markdown text outside code.
func links(text string) (targets []string) {
	text = codeBlock.ReplaceAllString(text, "`")
	for _, kind := range []*regexp.Regexp{inlineLink, attribute, definition} {
		for _, m := range kind.FindAllStringSubmatch(text, -1) {
			targets = append(targets, m[1])
		}
	}
	return targets
}

// broken says what is wrong with a link on a page, or nothing. Links to the web
// are not followed.
func broken(page, link string) string {
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return ""
	}
	path, anchor, _ := strings.Cut(link, "#")
	file := page
	if path != "" {
		file = filepath.Join(filepath.Dir(page), path)
	}
	if strings.HasPrefix(file, "..") || filepath.IsAbs(path) {
		return "it leads out of the repository"
	}
	if _, err := os.Stat(file); err != nil {
		return "there is no such file"
	}
	if anchor == "" || filepath.Ext(file) != ".md" {
		return ""
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	if !slices.Contains(anchors(string(text)), anchor) {
		return "there is no such heading"
	}
	return ""
}

// anchors returns the fragments by which forges link to the headings of a text.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(notAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

func TestLinksAreFound(t *testing.T) {
	const text = "[a](b.md) ![c](d.svg \"title\") `[no](link)`\n```\n[nor](this)\n```\n<img src=\"e.svg\">\n[f]: g.md#h\n## One `two`, three\n"
	if got := strings.Join(links(text), " "); got != "b.md d.svg e.svg g.md#h" {
		t.Errorf("links %q", got)
	}
	if got := anchors("## One `two`, three\n"); len(got) != 1 || got[0] != "one-two-three" {
		t.Errorf("anchors %q", got)
	}
	for link, sound := range map[string]bool{
		"docs/architecture.md": true, "docs/architecture.md#the-path-of-a-packet": true, "https://example.net/": true,
		"docs/absent.md": false, "docs/architecture.md#absent": false, "../x": false, "/etc/passwd": false,
	} {
		if why := broken("README.md", link); (why == "") != sound {
			t.Errorf("%s: %q", link, why)
		}
	}
}
