package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"tnat64d/datapath/engine"
)

// Backend is whom the server asks: the daemon. Its methods are called by many
// goroutines at once, and must neither wait for anything slow nor for the
// server.
type Backend interface {
	// Status returns the present state, which the server does not change.
	Status() Status

	// Trace has every packet of every uplink shown to see from now on, also
	// those of uplinks and engines that come later, until it is called with
	// nil; that must not fail while the daemon goes on, or packets would stay
	// where they are slow. After an error it is called with nil as well.
	// Meanwhile the kernel engine must leave all packets to user space. see may
	// be called by many goroutines at once, never blocks, and keeps
	// nothing of what it is shown. Calls of Trace come one after another.
	Trace(see func(uplink string, p engine.Seen)) error

	// Nudge tells about a change of the network, and which root process says
	// so. An error is for the client.
	Nudge(Nudge, Peer) error
}

// limits bound what clients can cost.
type limits struct {
	connections int // at a time; more are closed at once
	others      int // of these, of users who are not root; fewer than requests and streams
	user        int // of these, of one user
	requests    int // at a time; more are refused
	streams     int // of these, watches and traces; the rest is for short ones
	traces      int // of these

	request time.Duration // for the client to send its request, and to take a short answer
	stream  time.Duration // for a write to a client that watches or traces: it may be stopped for a moment
	beat    time.Duration // between empty lines of a stream, that find out whether the client is there
	pause   time.Duration // between two states for one client
}

var ordinary = limits{
	connections: 32, others: 8, user: 4, requests: 16, streams: 12, traces: 4,
	request: 5 * time.Second, stream: time.Minute, beat: 30 * time.Second, pause: 100 * time.Millisecond,
}

const (
	maxHeader = 4 << 10 // bytes of a request's header; net/http adds as much
	maxBody   = 64 << 10
)

// Server answers on the control socket. Members of the daemon's group may open it
// (mode 0660) and read the daemon's state. Requests that change the daemon, or show
// the packets of other users, are for root: see Peer.
type Server struct {
	socket   *socket
	backend  Backend
	admins   []uint32 // users besides root with root's rights here
	limits   limits
	tracing  tracing
	complain *complaints

	requests, streams slots
	stopping          atomic.Bool

	watchers watchers
	handling handling
}

// NewServer creates the control socket of daemon at path. Run answers on it; call it in
// any case, if only with a context that has ended, to remove the socket. Users
// in admins may do what root may. Errors are for people.
func NewServer(daemon Daemon, path string, b Backend, log *slog.Logger, admins ...uint32) (*Server, error) {
	return newServer(daemon, path, b, log, ordinary, admins...)
}

func newServer(daemon Daemon, path string, b Backend, log *slog.Logger, l limits, admins ...uint32) (*Server, error) {
	s, err := listen(daemon, path, log)
	if err != nil {
		return nil, err
	}
	return &Server{
		socket: s, backend: b, admins: admins, limits: l,
		tracing:  tracing{backend: b, max: l.traces},
		complain: &complaints{log: log, kinds: make(map[string]*complaint)},
		requests: make(slots, l.requests), streams: make(slots, l.streams),
	}, nil
}

// Run answers until ctx ends, and returns nil then. In any case it removes the
// socket, and does not call the backend any more when it has returned.
func (s *Server) Run(ctx context.Context) error {
	defer s.handling.end()
	defer s.socket.Close()
	requests, endRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer endRequests()
	srv := &http.Server{
		Handler:           s.handler(),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ReadHeaderTimeout: s.limits.request,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(s.complain, "", 0),
	}
	srv.SetKeepAlivesEnabled(false) // a connection is one request, so that counting those is enough
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.stopping.Store(true) // before any request sees its end
		endRequests()
		// Those who watch see the end of their stream, those who do not read get no time.
		soon, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(soon) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(&limited{
		Listener: s.socket, slots: make(slots, s.limits.connections), others: make(slots, s.limits.others),
		perUser: s.limits.user, isRoot: s.isRoot, complain: s.complain,
	})
	if stop() {
		srv.Close()
		return err
	}
	<-stopped
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/watch", s.watch)
	mux.HandleFunc("GET /v1/trace", s.adminOnly("only root may trace: it shows the packets of all users", s.trace))
	mux.HandleFunc("POST /v1/nudge", s.adminOnly("only root may nudge: it may name other DNS servers", s.nudge))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fmt.Errorf("there is no %s %s", r.Method, r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.handling.begin() {
			return
		}
		defer s.handling.done()
		if c, ok := r.Context().Value(connKey{}).(*conn); ok {
			c.understood.Store(true)
		}
		if !s.requests.take() {
			s.complain.say("too many requests on the control socket at the same time")
			refuse(w, http.StatusServiceUnavailable, errors.New("too many requests at the same time"))
			return
		}
		defer s.requests.free()
		rc, deadline := http.NewResponseController(w), time.Now().Add(s.limits.request)
		rc.SetWriteDeadline(deadline)
		if r.ContentLength != 0 {
			// Also what nobody wants is read. Without a body net/http reads
			// already, to see the client go, and must not be hurried.
			rc.SetReadDeadline(deadline)
		}
		if r.Method == http.MethodGet && r.ContentLength != 0 {
			refuse(w, http.StatusBadRequest, errors.New("the request must not have a body"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// problem is the body of every answer that is no success.
type problem struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(problem{err.Error()})
}

// present returns the state with what the contract promises.
func (s *Server) present() Status {
	st := s.backend.Status()
	if st.Uplinks == nil {
		st.Uplinks = []Uplink{}
	}
	return st
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(s.present()); err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(b.Bytes()); err != nil {
		s.lost(err)
	}
}

func (s *Server) nudge(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var n Nudge
	if err == nil {
		err = json.Unmarshal(body, &n)
	}
	if err == nil {
		err = s.backend.Nudge(n, requester(r))
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// lost notes why a write to a client failed, if the client is to blame: that
// it has gone is no news.
func (s *Server) lost(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.complain.say("disconnected a client of the control socket that does not read the response")
	}
}
