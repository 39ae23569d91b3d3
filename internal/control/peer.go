package control

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"

	"golang.org/x/sys/unix"
)

// Peer is the process that connected to the control socket, as the kernel
// noted it at connect(2) (SO_PEERCRED, unix(7)). The UID is the effective one,
// mapped into the daemon's user namespace: a user who is not mapped there,
// such as root of another namespace, appears as the overflow UID and never
// as 0.
type Peer struct {
	UID uint32
	PID int32 // 0: in a PID namespace that the daemon does not see
}

// nobodyUID stands for a peer whose credentials cannot be read.
const nobodyUID = 65534

// peerOf returns the process at the other end of c.
func peerOf(c net.Conn) (Peer, error) {
	nobody := Peer{UID: nobodyUID}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nobody, fmt.Errorf("%T has no peer credentials", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nobody, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return nobody, err
	}
	return Peer{UID: cred.Uid, PID: cred.Pid}, nil
}

// requester returns who sent r.
func requester(r *http.Request) Peer {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		return c.peer
	}
	return Peer{UID: nobodyUID}
}

// isRoot reports whether p is root, or has root's rights here.
func (s *Server) isRoot(p Peer) bool { return p.UID == 0 || slices.Contains(s.admins, p.UID) }

// adminOnly lets only root, and the users in s.admins, use a handler that
// changes the daemon or shows what other users send. rule is what the others
// are told.
func (s *Server) adminOnly(rule string, handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := requester(r)
		if s.isRoot(p) {
			handler(w, r)
			return
		}
		s.complain.say("refused a request on the control socket: "+rule, "uid", p.UID, "pid", p.PID)
		refuse(w, http.StatusForbidden, errors.New(rule))
	}
}
