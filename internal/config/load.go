package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"

	"tnat64d/internal/regularfile"
)

// Load reads a configuration file. The empty path means [DefaultPath], which
// may be absent: then everything has its default. A file that was named must
// exist.
//
// The warnings are about a valid configuration that may not be what was meant.
// A mistake in the file is an *[Error].
func Load(path string) (Config, []Problem, error) {
	named := path != ""
	if !named {
		path = DefaultPath
	}
	data, err := read(path)
	if !named && errors.Is(err, fs.ErrNotExist) {
		return Default(), nil, nil
	}
	if err != nil {
		return Config{}, nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return Parse(path, data)
}

// read reads a configuration file. It does not read pipes: a reload would wait for
// a writer, or find one empty and take all defaults.
func read(path string) ([]byte, error) {
	if path == os.DevNull {
		return nil, nil // the customary name of an empty file
	}
	// One byte more than allowed, for Parse to see that it is too much.
	return regularfile.Read(path, maxSize+1)
}

// Parse reads the content of a configuration file; name is for messages.
// Warnings and error are those of [Load].
func Parse(name string, data []byte) (Config, []Problem, error) {
	r := reading{config: Default()}
	err := r.read(name, data, schema(&r))
	if err == nil {
		r.together()
		err = r.err()
	}
	if err != nil {
		return Config{}, nil, err
	}
	return r.config, r.warnings, nil
}

// syntax reports what go-toml's decoder said.
func (c *checker) syntax(err error) {
	what := strings.TrimPrefix(err.Error(), "toml: ")
	var at *toml.DecodeError
	if !errors.As(err, &at) {
		c.problems = append(c.problems, Problem{File: c.file, What: "invalid TOML: " + what})
		return
	}
	line, column := at.Position()
	where := span{offsetOf(c.data, line, column), 0}
	rest, _, _ := bytes.Cut(c.data[where.off:], []byte("\n"))
	rest = bytes.TrimRight(rest, " \t\r")
	where.len = len(rest)
	text := "the end of the line"
	if where.off == len(c.data) {
		text = "the end of the file"
	} else if len(rest) > 0 {
		text = quote(string(rest))
	}
	allowed := ""
	if before := bytes.TrimRight(c.data[:where.off], " \t"); bytes.HasSuffix(before, []byte("=")) && len(rest) > 0 && unicode.IsLetter(rune(rest[0])) {
		allowed = "text in double quotes, a number, true, false" // a bare word, the commonest slip
	}
	c.add(&c.problems, "", where, fmt.Sprintf("invalid TOML, at %s: %s", text, what), allowed)
}

// offsetOf is the reverse of locate.
func offsetOf(data []byte, line, column int) int {
	off := 0
	for ; line > 1; line-- {
		i := bytes.IndexByte(data[off:], '\n')
		if i < 0 {
			break
		}
		off += i + 1
	}
	return min(off+column-1, len(data))
}

// quote quotes text from the file, cut to a length that one can read.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%.*q...", most, s)
	}
	return fmt.Sprintf("%q", s)
}
