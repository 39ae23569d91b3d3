package lab

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ServiceManager does for daemons what systemd does with the descriptors of a unit:
// it keeps those that a daemon sends (FDSTORE=1 of sd_notify(3)) and passes them to
// the next one (sd_listen_fds(3)).
type ServiceManager struct {
	socket string
	conn   *net.UnixConn

	mu    sync.Mutex
	ready chan struct{} // closed by READY=1
	kept  []keptFile
	said  []string      // lines of messages without descriptors
	busy  time.Duration // before it reads a message that removes descriptors
}

type keptFile struct {
	name string
	file *os.File
}

// NewServiceManager returns a service manager without a unit. socket is the path of
// its sd_notify(3) socket.
func NewServiceManager(socket string) (*ServiceManager, error) {
	os.Remove(socket) // of an earlier one
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	m := &ServiceManager{socket: socket, conn: conn, ready: make(chan struct{})}
	go m.listen()
	return m, nil
}

func (m *ServiceManager) listen() {
	b, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		m.handle(strings.Split(string(b[:n]), "\n"), descriptors(oob[:oobn]))
	}
}

// descriptors returns the descriptors in control messages.
func descriptors(oob []byte) (fds []int) {
	messages, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		got, _ := unix.ParseUnixRights(&m)
		fds = append(fds, got...)
	}
	return fds
}

// Busy lets the service manager take that long until it reads a message that removes
// descriptors, and what follows it.
func (m *ServiceManager) Busy(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy = d
}

func (m *ServiceManager) handle(lines []string, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy > 0 && slices.Contains(lines, "FDSTOREREMOVE=1") {
		busy := m.busy
		m.mu.Unlock()
		time.Sleep(busy)
		m.mu.Lock()
	}
	if len(fds) == 0 {
		m.said = append(m.said, lines...)
	}
	name := "stored"
	for _, line := range lines {
		if n, ok := strings.CutPrefix(line, "FDNAME="); ok {
			name = n
		}
	}
	switch {
	case slices.Contains(lines, "FDSTOREREMOVE=1"):
		m.drop(name)
	case slices.Contains(lines, "FDSTORE=1"):
		for _, fd := range fds {
			m.kept = append(m.kept, keptFile{name, os.NewFile(uintptr(fd), name)})
		}
		return
	case slices.Contains(lines, "READY=1"):
		select {
		case <-m.ready:
		default:
			close(m.ready)
		}
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// drop closes what has that name.
func (m *ServiceManager) drop(name string) {
	m.kept = slices.DeleteFunc(m.kept, func(k keptFile) bool {
		if k.name != name {
			return false
		}
		k.file.Close()
		return true
	})
}

// Names returns the names of the descriptors that are kept, sorted.
func (m *ServiceManager) Names() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return names
}

// Said returns the lines of all messages that came without descriptors, in order.
func (m *ServiceManager) Said() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said)
}

// Rename gives what is kept under a name another one.
func (m *ServiceManager) Rename(from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.kept {
		if m.kept[i].name == from {
			m.kept[i].name = to
		}
	}
}

// Put keeps a file as if the daemon had sent it, and owns it.
func (m *ServiceManager) Put(name string, f *os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = append(m.kept, keptFile{name, f})
}

// Reverse turns round the order in which the next daemon is passed what is kept.
func (m *ServiceManager) Reverse() {
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.Reverse(m.kept)
}

// Forget closes the descriptors of one name, or all for "": the unit has ended.
func (m *ServiceManager) Forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name != "" {
		m.drop(name)
		return
	}
	for _, k := range m.kept {
		k.file.Close()
	}
	m.kept = nil
}

// Close ends the service manager.
func (m *ServiceManager) Close() error {
	m.Forget("")
	return m.conn.Close()
}

// Pass prepares for a daemon, and returns what it is passed, in which environment. The
// daemon itself has to set LISTEN_PID.
func (m *ServiceManager) Pass() (files []*os.File, env []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready = make(chan struct{})
	var names []string
	for _, k := range m.kept {
		files, names = append(files, k.file), append(names, k.name)
	}
	env = []string{"NOTIFY_SOCKET=" + m.socket}
	if len(files) > 0 {
		env = append(env, fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	return files, env
}
