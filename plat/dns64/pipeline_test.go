package dns64

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// gatedUpstream answers A queries, those of names that begin with "slow" after open
// has been called. asked counts the names that wait.
func gatedUpstream(t *testing.T) (up *fakeUpstream, asked *atomic.Int64, open func()) {
	gate := make(chan struct{})
	open = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	asked = new(atomic.Int64)
	var seen sync.Map
	up = newUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		name := q.Question[0].Name
		if strings.HasPrefix(name, "slow") {
			if _, again := seen.LoadOrStore(name, true); !again {
				asked.Add(1)
			}
			<-gate
		}
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.A{Hdr: header(name, dns.TypeA, 60), A: []byte{192, 0, 2, 1}}}
		return m
	})
	return up, asked, open
}

// pipeline opens a connection to the server and sends it A queries for names.
func (s testServer) pipeline(t *testing.T, names ...string) *dns.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	conn := &dns.Conn{Conn: c}
	for _, name := range names {
		if err := conn.WriteMsg(question(name, dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// A slow name does not delay the answers to others of its connection (RFC 7766
// section 6.2.1.1).
func TestAnswersOfAConnectionComeAsTheyAreReady(t *testing.T) {
	up, _, open := gatedUpstream(t)
	s := start(t, Options{}, up)
	c := s.pipeline(t, "slow.example.", "ipv4only.arpa.")
	for _, want := range []string{"ipv4only.arpa.", "slow.example."} {
		m, err := c.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Question[0].Name; got != want {
			t.Errorf("answer to %s, want that to %s", got, want)
		}
		open()
	}
}

// A client that closes its direction after its last query gets all answers, then the
// end.
func TestHalfClosedConnectionGetsItsAnswers(t *testing.T) {
	up, asked, open := gatedUpstream(t)
	s := start(t, Options{}, up)
	c := s.pipeline(t, "slow1.example.", "fast.example.", "slow2.example.")
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "two names at the resolver", func() bool { return asked.Load() == 2 })
	missing := map[string]bool{"slow1.example.": true, "fast.example.": true, "slow2.example.": true}
	for range 3 {
		m, err := c.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		delete(missing, m.Question[0].Name)
		open()
	}
	if len(missing) > 0 {
		t.Errorf("no answer to %v", missing)
	}
	if _, err := c.ReadMsg(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v, want the end", err)
	}
	waitFor(t, "no connection counted", func() bool {
		s.admission.mu.Lock()
		defer s.admission.mu.Unlock()
		return s.admission.conns == 0 && s.admission.pending == 0
	})
}

// A connection has at most tcpPending queries pending. The next ones are answered
// later.
func TestPendingOfAConnectionIsLimited(t *testing.T) {
	up, asked, open := gatedUpstream(t)
	s := start(t, Options{}, up)
	var names []string
	for i := range tcpPending + 10 {
		names = append(names, fmt.Sprintf("slow%d.example.", i))
	}
	c := s.pipeline(t, names...)
	waitFor(t, "a full connection", func() bool { return asked.Load() >= tcpPending })
	// Others would be pending by now; on a slow machine the test passes without them.
	time.Sleep(100 * time.Millisecond)
	if n := s.admissionPending(); n > tcpPending {
		t.Errorf("%d queries pending, want at most %d", n, tcpPending)
	}
	open()
	for range names {
		if _, err := c.ReadMsg(); err != nil {
			t.Fatal(err)
		}
	}
}

// waitFor waits a minute until what has become true.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there is not %s", what)
		}
	}
}
