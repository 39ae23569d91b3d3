package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxProblems bounds what one file makes us print.
const maxProblems = 20

// checker turns a tree into a Config and collects what is wrong with it.
type checker struct {
	file      string
	data      []byte
	config    Config
	given     map[string]*node // the keys that the file has, for example "clat.mtu"
	entry     Mapping          // the [[translation.eam]] that is being read
	shim      Shim             // of the shim's file
	shimRoute ShimRoute        // the [[shim.route]] that is being read
	gateway   gatewayReading   // of the gateway's file
	places    []place          // of the entries of config.Translation.EAM
	problems  []Problem
	warnings  []Problem
	more      int // problems that were left out
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
			what = fmt.Sprintf("key %s is in no table", quote(f.name))
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

// format is what a string value may look like.
type format[T any] struct {
	allowed string
	parse   func(string) (T, error)
}

// text sets dst from a string value.
func text[T any](c *checker, key string, n *node, dst *T, f format[T]) bool {
	if !c.wants(key, n, stringKind, f.allowed) {
		return false
	}
	v, err := f.parse(n.text)
	if err != nil {
		c.refuse(key, n, fmt.Sprintf("%s %v", quote(n.text), err), f.allowed)
		return false
	}
	*dst = v
	return true
}

// list sets dst from a list of different string values.
func list[T comparable](c *checker, key string, n *node, dst *[]T, f format[T]) {
	allowed := "a list of strings, each " + f.allowed
	if !c.wants(key, n, listKind, allowed) {
		return
	}
	values := make([]T, 0, len(n.items))
	seen := make(map[T]bool, len(n.items))
	for _, item := range n.items {
		var v T
		if !text(c, key, item, &v, f) {
			continue
		}
		if seen[v] {
			c.refuse(key, item, fmt.Sprintf("%s occurs twice", quote(item.text)), "each value once")
			continue
		}
		seen[v] = true
		values = append(values, v)
	}
	*dst = values
}

// oneOf sets dst to the index of a word.
func oneOf[T ~uint8](words []string) format[T] {
	return format[T]{
		allowed: strings.Join(words, ", "),
		parse: func(s string) (T, error) {
			for i, w := range words {
				if s == w {
					return T(i), nil
				}
			}
			if near := nearest(s, words); near != "" {
				return 0, fmt.Errorf("is none of its values (did you mean %q?)", near)
			}
			return 0, fmt.Errorf("is none of its values")
		},
	}
}

// integer sets dst from an integer value between low and high.
func integer[T ~int | ~uint32](c *checker, key string, n *node, dst *T, low, high int64, allowed string) {
	if !c.wants(key, n, integerKind, allowed) {
		return
	}
	// TOML's 0x, 0o, 0b and underscores are Go's; leading zeros it has none.
	v, err := strconv.ParseInt(n.text, 0, 64)
	switch {
	case err != nil || v < low || v > high:
		c.refuse(key, n, quote(n.text)+" is out of range", allowed)
	default:
		*dst = T(v)
	}
}

// boolean sets dst from true or false.
func boolean(c *checker, key string, n *node, dst *bool) {
	if c.wants(key, n, boolKind, "true, false") {
		*dst = n.text == "true"
	}
}
