package say

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

type detailed struct{}

func (detailed) Error() string  { return "short" }
func (detailed) Detail() string { return "f:1:1: long\n" }

func TestFail(t *testing.T) {
	plain := errors.New("it broke")
	for _, tc := range []struct {
		err    error
		text   string
		status int
	}{
		{plain, "p: it broke\n", StatusError},
		{Hint(plain, "mend %q", "it"), "p: it broke\nhint: mend \"it\"\n", StatusError},
		{Usage(plain), "p: it broke\n", StatusUsage},
		{Hint(Usage(plain), "read the manual"), "p: it broke\nhint: read the manual\n", StatusUsage},
		{fmt.Errorf("outside: %w", Usage(Hint(plain, "inside"))), "p: outside: it broke\nhint: inside\n", StatusUsage},
		{&Failure{What: "cannot start"}, "p: cannot start\n", StatusError},
		{&Failure{What: "cannot start", Err: plain, Hint: "mend it"}, "p: cannot start: it broke\nhint: mend it\n", StatusError},
		{&Failure{What: "cannot start", Err: Usage(plain)}, "p: cannot start: it broke\n", StatusUsage},
		{errors.Join(Hint(plain, "a"), fmt.Errorf("b: %w", Hint(plain, "b")), Hint(plain, "a")), "p: it broke\nb: it broke\nit broke\nhint: a\nhint: b\n", StatusError},
		{Usage(detailed{}), "f:1:1: long\n", StatusUsage},
		{Usage(&fs.PathError{Op: "open", Path: "f", Err: unix.EMFILE}), "p: open f: too many open files\n", StatusError},
		{Usage(&fs.PathError{Op: "open", Path: "f", Err: unix.ENFILE}), "p: open f: too many open files in system\n", StatusError},
		{Usage(&fs.PathError{Op: "read", Path: "f", Err: unix.ENOMEM}), "p: read f: cannot allocate memory\n", StatusError},
		{Usage(&fs.PathError{Op: "open", Path: "f", Err: unix.ENOENT}), "p: open f: no such file or directory\n", StatusUsage},
	} {
		var b strings.Builder
		if status := Fail(&b, "p", tc.err); status != tc.status || b.String() != tc.text {
			t.Errorf("%#v: status %d, %q; want %d, %q", tc.err, status, b.String(), tc.status, tc.text)
		}
	}
	if !errors.Is(Usage(Hint(plain, "x")), plain) {
		t.Error("the error inside is lost")
	}
}
