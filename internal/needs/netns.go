package needs

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Netns moves the test into a network namespace of its own, with the programs that it
// starts, or skips or fails it without root. Its thread is never unlocked, so that it
// ends with the test, and the namespace with it.
func Netns(t testing.TB) {
	t.Helper()
	Root(t, "makes a network namespace")
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal("new network namespace: ", err)
	}
}
