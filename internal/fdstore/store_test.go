package fdstore

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"tnat64d/internal/daemon/daemontest"

	"golang.org/x/sys/unix"
)

// manager is as much of a service manager as a store needs.
type manager struct{ conn *net.UnixConn }

func newManager(t *testing.T) *manager {
	t.Helper()
	return &manager{daemontest.Listen(t)}
}

// next returns the next message and the descriptors that came with it.
func (m *manager) next(t *testing.T) (text string, fds []int) {
	t.Helper()
	b, oob := make([]byte, 4096), make([]byte, 4096)
	n, oobn, _, _, err := m.conn.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range messages {
		got, err := unix.ParseUnixRights(&c)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, got...)
	}
	return string(b[:n]), fds
}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open()
	if err != nil || s == nil {
		t.Fatalf("%v, %v", s, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	m := newManager(t)
	s := openStore(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := s.Keep("pipe", int(r.Fd())); err != nil {
		t.Fatal(err)
	}
	r.Close()
	text, fds := m.next(t)
	if text != "FDSTORE=1\nFDNAME=pipe\nFDPOLL=0" || len(fds) != 1 {
		t.Fatalf("%q with %d descriptors", text, len(fds))
	}
	kept := os.NewFile(uintptr(fds[0]), "kept")
	defer kept.Close()
	fmt.Fprint(w, "still open")
	w.Close()
	if b, err := io.ReadAll(kept); string(b) != "still open" {
		t.Errorf("the copy in the store yields %q, %v", b, err)
	}

	if n := s.Kept(); n != 1 {
		t.Errorf("%d descriptors are kept, want 1", n)
	}
	if err := s.Drop("pipe"); err != nil {
		t.Fatal(err)
	}
	if text, fds := m.next(t); text != "FDSTOREREMOVE=1\nFDNAME=pipe" || fds != nil {
		t.Errorf("%q with %d descriptors", text, len(fds))
	}
	if n := s.Kept(); n != 0 {
		t.Errorf("%d descriptors are kept, want none", n)
	}
	if err := s.Drop("pipe"); err != nil { // says nothing: it is not there
		t.Error(err)
	}
	if err := s.Keep("next", int(w.Fd())); err == nil {
		t.Error("a closed descriptor is no error")
	}
}

func TestStoreRefusesNames(t *testing.T) {
	newManager(t)
	s := openStore(t)
	for _, name := range []string{"", "a:b", "a b", "a\nFDSTOREREMOVE=1", "é", strings.Repeat("a", 256)} {
		if err := s.Keep(name, 0); err == nil {
			t.Errorf("%q is accepted as a name", name)
		}
	}
}

func TestNoServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if s, err := Open(); s != nil || err != nil {
		t.Errorf("%v, %v without a service manager", s, err)
	}
}

// receiveEnv makes the test binary say what it receives.
const receiveEnv = "FDSTORE_TEST_RECEIVE"

func TestMain(m *testing.M) {
	if os.Getenv(receiveEnv) == "" {
		os.Exit(m.Run())
	}
	for _, d := range Receive() {
		flags, _ := unix.FcntlInt(uintptr(d.FD), unix.F_GETFD, 0)
		b, _ := io.ReadAll(os.NewFile(uintptr(d.FD), d.Name))
		fmt.Printf("%s has %q, closed on exec %v\n", d.Name, b, flags&unix.FD_CLOEXEC != 0)
	}
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "LISTEN_") {
			fmt.Println("left in the environment:", e)
		}
	}
	fmt.Println(len(Receive()), "the second time")
}

func TestReceive(t *testing.T) {
	for _, c := range []struct{ name, pid, want string }{
		{"ours", "$$", "first has \"1\", closed on exec true\nsecond has \"2\", closed on exec true\n0 the second time\n"},
		{"another process's", "1", "0 the second time\n"},
		{"no process's", "", "0 the second time\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", `LISTEN_PID=`+c.pid+` exec "$0"`, "/proc/self/exe")
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Args[3] = exe
			cmd.Env = append(os.Environ(), receiveEnv+"=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=first:second")
			for _, text := range []string{"1", "2"} {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				fmt.Fprint(w, text)
				w.Close()
				cmd.ExtraFiles = append(cmd.ExtraFiles, r)
			}
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != c.want {
				t.Errorf("%v:\n%swant\n%s", err, out, c.want)
			}
		})
	}
}
