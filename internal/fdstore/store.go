// Package fdstore keeps descriptors in systemd's file descriptor store, from which
// the next process of the unit receives them: see FileDescriptorStoreMax= in
// systemd.service(5) and FDSTORE=1 in sd_notify(3).
//
// systemd accepts descriptors from the processes that NotifyAccess= names, by
// default the main process of the unit only, and passes them to that unit's main
// process only. A descriptor's name is a label and no proof: whoever receives
// descriptors has to ask the kernel what they are.
package fdstore

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Store is the store of this process's unit. Its methods may be called
// concurrently.
type Store struct {
	socket int
	to     unix.SockaddrUnix

	mu   sync.Mutex
	kept map[string]int // how many descriptors have been sent, by name
}

// Open returns the store of the service manager that started this process, or nil
// if none did. Whether the unit has room in its store is not known yet: systemd
// ignores what does not fit, without an answer.
func Open() (*Store, error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil, nil
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("file descriptor store: %w", err)
	}
	return &Store{socket: socket, to: unix.SockaddrUnix{Name: path}, kept: map[string]int{}}, nil
}

// Keep puts a copy of fd into the store. Several descriptors may have the same
// name, which has up to 255 printable ASCII characters but no colon.
func (s *Store) Keep(name string, fd int) error {
	if err := checkName(name); err != nil {
		return err
	}
	// FDPOLL=0: systemd would poll the descriptor and remove it on EPOLLERR, which
	// BPF maps always report. The option needs systemd 246.
	if err := s.send("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0", unix.UnixRights(fd)); err != nil {
		return fmt.Errorf("keep %s in the file descriptor store: %w", name, err)
	}
	s.Adopt(name)
	return nil
}

// Adopt notes that a descriptor that this process received is still in the store.
func (s *Store) Adopt(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[name]++
}

// Drop removes all descriptors of that name from the store.
func (s *Store) Drop(name string) error {
	s.mu.Lock()
	_, there := s.kept[name]
	delete(s.kept, name)
	s.mu.Unlock()
	if !there {
		return nil
	}
	if err := s.send("FDSTOREREMOVE=1\nFDNAME="+name, nil); err != nil {
		return fmt.Errorf("remove %s from the file descriptor store: %w", name, err)
	}
	return nil
}

// Kept returns how many descriptors the store has if it has accepted them all.
func (s *Store) Kept() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		n += k
	}
	return n
}

// Close ends the connection to the service manager. What is in the store stays
// there.
func (s *Store) Close() error { return unix.Close(s.socket) }

// send sends one message. With descriptors it must be a single sendmsg(2), and
// go-systemd's SdNotify passes none.
func (s *Store) send(text string, rights []byte) error {
	for {
		err := unix.Sendmsg(s.socket, []byte(text), rights, &s.to, 0)
		if err != unix.EINTR {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

func checkName(name string) error {
	bad := strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
	if name == "" || len(name) > 255 || bad {
		return fmt.Errorf("file descriptor store: %q is not a valid name for a descriptor", name)
	}
	return nil
}
