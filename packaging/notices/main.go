// Command notices writes the licence texts of everything that is linked into Go
// programs: of each module the files LICENSE, COPYING, NOTICE and PATENTS beside
// the packages in use and above them, and those of Go's standard library. It
// takes what is linked in from `go list -deps`, for the platform that a program
// was built for, and compares that with the modules that the program itself
// names (`go version -m`). Nothing is fetched, and the same programs give the
// same text.
//
//	notices PROGRAM... >third-party-notices.txt
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

func run() error {
	flag.Parse()
	if flag.NArg() == 0 {
		return errors.New("want PROGRAM and perhaps more programs")
	}
	l := make(linked)
	for _, path := range flag.Args() {
		if err := l.add(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	texts, err := l.texts()
	if err != nil {
		return err
	}
	w := bufio.NewWriter(os.Stdout)
	write(w, texts)
	return w.Flush()
}
