package config

import (
	"fmt"
	"strconv"
	"strings"
)

// key is one key of a table: set checks its value and puts it where it belongs.
// A table is a key too, and so is a list of tables; they have keys within.
type key struct {
	name   string
	set    func(c *checker, name string, n *node)
	within []key
}

// format is what a string value may look like.
type format[T any] struct {
	allowed string
	parse   func(string) (T, error)
}

// set sets dst from a string value.
func set[T any](c *checker, key string, n *node, dst *T, f format[T]) bool {
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

// text is a key with a string value.
func text[T any](name string, dst *T, f format[T]) key {
	return key{name: name, set: func(c *checker, name string, n *node) { set(c, name, n, dst, f) }}
}

// list is a key with a list of different string values.
func list[T comparable](name string, dst *[]T, f format[T]) key {
	return key{name: name, set: func(c *checker, name string, n *node) {
		if !c.wants(name, n, listKind, "a list of strings, each "+f.allowed) {
			return
		}
		values := make([]T, 0, len(n.items))
		seen := make(map[T]bool, len(n.items))
		for _, item := range n.items {
			var v T
			if !set(c, name, item, &v, f) {
				continue
			}
			if seen[v] {
				c.refuse(name, item, fmt.Sprintf("%s occurs twice", quote(item.text)), "each value once")
				continue
			}
			seen[v] = true
			values = append(values, v)
		}
		*dst = values
	}}
}

// integer is a key with an integer value between low and high.
func integer[T ~int | ~uint32](name string, dst *T, low, high int64, allowed string) key {
	return key{name: name, set: func(c *checker, name string, n *node) {
		if !c.wants(name, n, integerKind, allowed) {
			return
		}
		// TOML's 0x, 0o, 0b and underscores are Go's; leading zeros it has none.
		v, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil || v < low || v > high {
			c.refuse(name, n, quote(n.text)+" is out of range", allowed)
			return
		}
		*dst = T(v)
	}}
}

// boolean is a key that is true or false.
func boolean(name string, dst *bool) key {
	return key{name: name, set: func(c *checker, name string, n *node) {
		if c.wants(name, n, boolKind, "true, false") {
			*dst = n.text == "true"
		}
	}}
}

// table is a table of the file, [name].
func table(name string, keys []key) key {
	return key{name: name, within: keys, set: func(c *checker, name string, n *node) {
		if c.wants(name, n, tableKind, "a table, ["+name+"]") {
			c.table(name, n, keys)
		}
	}}
}

// entries is a list of tables, [[name]], each of which needs all of its keys. An
// entry that accept takes is added to dst, and to places as it stands in the file.
func entries[T any](name string, dst *[]T, places *[]*node, keys func(*T) []key, accept func(c *checker, name string, n *node, v T) bool) key {
	within := keys(new(T))
	names := make([]string, len(within))
	for i, k := range within {
		names[i] = k.name
	}
	all := strings.Join(names, " and ")
	return key{name: name, within: within, set: func(c *checker, name string, n *node) {
		if !c.wants(name, n, listKind, "a list of tables, [["+name+"]]") {
			return
		}
		for _, item := range n.items {
			if !c.wants(name, item, tableKind, "a table with "+all) {
				continue
			}
			var v T
			before := len(c.problems)
			c.table(name, item, keys(&v))
			switch {
			case len(c.problems) > before:
			case len(item.fields) < len(within):
				c.refuse(name, item, "a required key is missing", all)
			case accept == nil || accept(c, name, item, v):
				*dst, *places = append(*dst, v), append(*places, item)
			}
		}
	}}
}

// oneOf is one of some words; its value is the index of the word.
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
				return 0, fmt.Errorf("is not an allowed value (did you mean %q?)", near)
			}
			return 0, fmt.Errorf("is not an allowed value")
		},
	}
}
