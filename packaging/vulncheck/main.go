// Command vulncheck runs govulncheck on the Go vulnerability database as the Go
// module golang.org/x/vulndb has it, so that it works where only a module proxy
// can be reached. Vulnerable code of a module that our programs call is a
// failure. That of Go's own standard library is a warning, which names the Go
// release to build with: it depends on the machine and not on the source; -strict
// makes it a failure as well.
//
//	vulncheck [-db URL] [-strict] [PACKAGES]
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck:", err)
		os.Exit(1)
	}
}

func run() error {
	db := flag.String("db", "", "`URL` of a vulnerability database, such as https://vuln.go.dev (default: the newest golang.org/x/vulndb)")
	strict := flag.Bool("strict", false, "fail on vulnerable code of Go's standard library as well")
	flag.Parse()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./cmd/..."}
	}
	if *db == "" {
		url, version, err := database()
		if err != nil {
			return err
		}
		*db = url
		fmt.Println("vulnerability data:", "golang.org/x/vulndb", version)
	}
	cmd := exec.Command("go", append([]string{"tool", "-modfile=packaging/tools/go.mod", "govulncheck", "-format=json", "-db=" + *db}, packages...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("govulncheck: %w", err)
	}
	found, err := read(out)
	if err != nil {
		return err
	}
	modules, std := report(os.Stdout, found)
	if modules > 0 || *strict && std > 0 {
		return errors.New("the programs call vulnerable code")
	}
	return nil
}
