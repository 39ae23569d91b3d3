package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOnceMore gives once-more.sh what a test binary could do. $again is empty at
// first.
func TestOnceMore(t *testing.T) {
	for _, c := range []struct {
		name, binary string
		ok           bool
		unsteady     string
		runs         string
	}{
		{"passes", `exit 0`, true, "", "-test.v "},
		{"fails once", `[ $again ] || { echo "--- FAIL: TestA (0.00s)"; echo "    --- FAIL: TestA/x (0.00s)"; exit 1; }`, true, "TestA\n", "-test.v -test.v -test.run=^(TestA)$ "},
		{"two fail once", `[ $again ] || { echo "--- FAIL: TestB (1s)"; echo "--- FAIL: TestA (1s)"; exit 1; }`, true, "TestA\nTestB\n", "-test.v -test.v -test.run=^(TestA|TestB)$ "},
		{"fails twice", `echo "--- FAIL: TestA (0.00s)"; exit 1`, false, "", "-test.v -test.v -test.run=^(TestA)$ "},
		{"three fail", `for i in A B C; do echo "--- FAIL: Test$i (0.00s)"; done; exit 1`, false, "", "-test.v "},
		{"panics", `echo "--- FAIL: TestA (0.00s)"; echo "panic: nil [recovered]"; exit 2`, false, "", "-test.v "},
		{"races", `echo "WARNING: DATA RACE"; echo "--- FAIL: TestA (0.00s)"; exit 1`, false, "", "-test.v "},
		{"its program panics", `echo "    said: panic: nil"; echo "--- FAIL: TestA (0.00s)"; exit 1`, false, "", "-test.v "},
		{"no test has failed", `exit 1`, false, "", "-test.v "},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			binary, runs, unsteady := filepath.Join(dir, "a.test"), filepath.Join(dir, "runs"), filepath.Join(dir, "unsteady")
			script := "#!/bin/sh\nagain=${2-}\nprintf '%s ' \"$@\" >>" + runs + "\n" + c.binary + "\n"
			if err := os.WriteFile(binary, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("./once-more.sh", binary, "-test.v")
			cmd.Env = append(os.Environ(), "TNAT64_UNSTEADY="+unsteady)
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok {
				t.Errorf("%v\n%s", err, out)
			}
			if got, _ := os.ReadFile(runs); string(got) != c.runs {
				t.Errorf("ran with %q, want %q", got, c.runs)
			}
			if got, _ := os.ReadFile(unsteady); string(got) != c.unsteady {
				t.Errorf("list %q, want %q", got, c.unsteady)
			}
			if !c.ok && !strings.Contains(string(out), "FAIL") && c.name != "no test has failed" {
				t.Errorf("the failure is not shown: %q", out)
			}
		})
	}
}
