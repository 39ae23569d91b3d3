package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxProblems bounds what one file makes us print.
const maxProblems = 20

// checker compares a file with the keys that it may have, and collects what is
// wrong with it.
type checker struct {
	file     string
	data     []byte
	given    map[string]*node // the keys that the file has, for example "clat.mtu"
	problems []Problem
	warnings []Problem
	more     int // problems that were left out
}

// read sets what keys lead to from the content of a file; name is for messages.
func (c *checker) read(name string, data []byte, keys []key) error {
	c.file, c.data, c.given = name, data, map[string]*node{}
	if len(data) > maxSize {
		return &Error{[]Problem{{File: name, What: "the file is too large", Allowed: fmt.Sprintf("up to %d bytes", maxSize)}}}
	}
	if p, ok := tooManyNames(c.data); ok {
		c.add(&c.problems, "", p, fmt.Sprintf("more than %d names in one table or key, or more than %[1]d tables", maxNames), "")
		return c.err()
	}
	// The decoder knows all of TOML's rules, also those that need memory, such
	// as no key twice. What fits which key is looked at below.
	if err := toml.Unmarshal(data, new(map[string]any)); err != nil {
		c.syntax(err)
		return c.err()
	}
	root, err := parseTree(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.table("", root, keys)
	return c.err()
}

func (c *checker) add(to *[]Problem, key string, at span, what, allowed string) {
	if len(*to) >= maxProblems {
		c.more++
		return
	}
	p := Problem{File: c.file, Key: key, What: what, Allowed: allowed}
	p.Line, p.Column, p.excerpt = locate(c.data, at)
	*to = append(*to, p)
}

// refuse reports a value that is wrong.
func (c *checker) refuse(key string, n *node, what, allowed string) {
	c.add(&c.problems, key, n.at, what, allowed)
}

// warn reports a value that is right but looks unintended.
func (c *checker) warn(key string, n *node, what string) {
	c.add(&c.warnings, key, n.at, what, "")
}

func (c *checker) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	if c.more > 0 {
		c.problems = append(c.problems, Problem{File: c.file, What: fmt.Sprintf("%d more errors", c.more)})
	}
	return &Error{c.problems}
}

// table walks a table of the file along the keys it may have. The path of the
// whole document is "".
func (c *checker) table(path string, t *node, keys []key) {
	for _, f := range t.fields {
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == f.name })
		if i < 0 {
			c.unknown(path, f, keys)
			continue
		}
		name := f.name
		if path != "" {
			name = path + "." + name
		}
		c.given[name] = f.node
		keys[i].set(c, name, f.node)
	}
}

func (c *checker) unknown(path string, f field, keys []key) {
	known := make([]string, len(keys))
	for i, k := range keys {
		known[i] = k.name
	}
	what := fmt.Sprintf("unknown key %s in [%s]", quote(f.name), path)
	if path == "" {
		what = "unknown table " + quote(f.name)
		if f.kind != tableKind && f.kind != listKind {
			what = fmt.Sprintf("key %s is outside a table", quote(f.name))
		}
	}
	if near := nearest(f.name, known); near != "" {
		what += fmt.Sprintf(" (did you mean %q?)", near)
	}
	c.add(&c.problems, "", f.at, what, strings.Join(known, ", "))
}

// shown is a value as a message quotes it.
func shown(n *node) string {
	switch n.kind {
	case listKind:
		return `"[...]"`
	case tableKind:
		return `"{...}"`
	}
	return quote(n.text)
}

// wants reports a value of the wrong kind.
func (c *checker) wants(key string, n *node, k kind, allowed string) bool {
	if n.kind == k {
		return true
	}
	c.refuse(key, n, fmt.Sprintf("%s is %s, not %s", shown(n), n.kind, k), allowed)
	return false
}
