package control

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// Changed tells the server that the state has changed. It never blocks, and
// may be called on the nil Server.
func (s *Server) Changed() {
	if s != nil {
		s.watchers.tell()
	}
}

// watch sends the state, and again after every change. Who reads slowly gets
// the latest only.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	out := s.openStream(w)
	if out == nil {
		return
	}
	defer s.streams.free()
	me := s.watchers.add()
	defer s.watchers.remove(me)
	beat := time.NewTicker(s.limits.beat)
	defer beat.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		// The state is asked for here and not where it changes.
		if err := out.send(s.present()); err != nil {
			s.lost(err)
			return
		}
		pause.Reset(s.limits.pause)
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
		for changed := false; !changed; {
			select {
			case <-me.changed:
				changed = true
			case <-beat.C:
				if err := out.send(); err != nil {
					s.lost(err)
					return
				}
			case <-r.Context().Done():
				return
			}
		}
	}
}

// trace sends packets as they come.
func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	out := s.openStream(w)
	if out == nil {
		return
	}
	defer s.streams.free()
	t, err := s.tracing.start(f)
	if err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, errTooManyTraces) {
			status = http.StatusServiceUnavailable
			s.complain.say("too many traces at the same time")
		}
		refuse(w, status, err)
		return
	}
	defer func() {
		if err := s.tracing.stop(t); err != nil && !s.stopping.Load() {
			s.complain.say("cannot end tracing", "reason", err)
		}
	}()
	beat := time.NewTicker(s.limits.beat)
	defer beat.Stop()
	err = out.send() // it has begun
	for err == nil {
		select {
		case <-t.ready:
			records := t.take()
			values := make([]any, len(records))
			for i := range records {
				values[i] = &records[i]
			}
			err = out.send(values...)
		case <-beat.C:
			err = out.send()
		case <-r.Context().Done():
			return
		}
	}
	s.lost(err)
}

// stream writes JSON values to a client, one per line.
type stream struct {
	*http.ResponseController
	w       http.ResponseWriter
	encoder *json.Encoder
	timeout time.Duration
}

// openStream returns nil if there are too many, which the client is told. The
// caller gives the slot back.
func (s *Server) openStream(w http.ResponseWriter) *stream {
	if !s.streams.take() {
		s.complain.say("too many programs watch or trace at the same time")
		refuse(w, http.StatusServiceUnavailable, errors.New("too many programs watch or trace at the same time"))
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	return &stream{http.NewResponseController(w), w, json.NewEncoder(w), s.limits.stream}
}

// send writes values, or an empty line.
func (s *stream) send(values ...any) error {
	s.SetWriteDeadline(time.Now().Add(s.timeout))
	if len(values) == 0 {
		if _, err := s.w.Write([]byte("\n")); err != nil {
			return err
		}
	}
	for _, v := range values {
		if err := s.encoder.Encode(v); err != nil {
			return err
		}
	}
	return s.Flush()
}
