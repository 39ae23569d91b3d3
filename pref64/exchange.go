package pref64

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	maxUDPAnswer = 1232            // bytes; without EDNS0 512 are allowed
	maxTCPAnswer = 16384           // bytes; more than maxAAAA records need by far
	tcpTimeout   = 3 * time.Second // for connection, question and answer

	// Answers to something else are read over, as they may hide the right one,
	// but no more than so many at a stretch: a flood must not keep a processor
	// busy.
	floodBurst = 128
	floodPause = 25 * time.Millisecond
)

var (
	// ErrNoAnswer says that a DNS server did not answer in time.
	ErrNoAnswer    = errors.New("does not answer")
	errUnreachable = errors.New("cannot be reached")
)

// dialFunc connects to port 53 of a server, over the uplink. The network is
// udp or tcp. The source port is random, as the kernel chooses it.
type dialFunc func(ctx context.Context, network string, server netip.Addr) (net.Conn, error)

// ask asks one server once. The error says, after the server's name, what is
// wrong with it. Also without one there may be things that were ignored.
func (dial dialFunc) ask(ctx context.Context, server netip.Addr, timeout time.Duration) (answer, []Ignored, error) {
	ans, ignored, err := dial.askUDP(ctx, server, timeout)
	if err == nil && ans.cut {
		var reason Reason
		ans, reason, err = dial.askTCP(ctx, server)
		if reason != None {
			ignored = append(ignored, Ignored{Reason: reason})
		}
	}
	if ans.ignored != None {
		ignored = append(ignored, Ignored{Reason: ans.ignored})
	}
	return ans, ignored, err
}

func (dial dialFunc) askUDP(ctx context.Context, server netip.Addr, timeout time.Duration) (answer, []Ignored, error) {
	deadline := time.Now().Add(timeout)
	conn, err := dial(ctx, "udp", server)
	if err != nil {
		return answer{}, nil, dialError(err)
	}
	defer conn.Close()
	defer interrupt(ctx, conn)()
	conn.SetDeadline(deadline)
	id := randomID()
	if _, err := conn.Write(query(id)); err != nil {
		return answer{}, nil, dialError(err)
	}
	var (
		wrong [NumReasons]uint64
		seen  int
		buf   = make([]byte, maxUDPAnswer+1)
	)
	ignored := func() (all []Ignored) {
		for r, n := range wrong {
			if n > 0 {
				all = append(all, Ignored{Reason: Reason(r), Count: n})
			}
		}
		return all
	}
	for time.Now().Before(deadline) && ctx.Err() == nil {
		n, err := conn.Read(buf)
		if err != nil {
			return answer{}, ignored(), dialError(err)
		}
		ans, reason := parseAnswer(buf[:n], id)
		switch {
		case reason == WrongID || reason == WrongQuestion:
			wrong[reason]++
			if seen++; seen%floodBurst == 0 {
				time.Sleep(floodPause)
			}
			continue
		case n > maxUDPAnswer:
			reason = AnswerTooLong
		}
		if reason != None {
			wrong[reason]++
			return answer{}, ignored(), nonsense(reason)
		}
		return ans, ignored(), nil
	}
	return answer{}, ignored(), ErrNoAnswer
}

func (dial dialFunc) askTCP(ctx context.Context, server netip.Addr) (answer, Reason, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()
	conn, err := dial(ctx, "tcp", server)
	if err != nil {
		return answer{}, None, overTCP(dialError(err))
	}
	defer conn.Close()
	defer interrupt(ctx, conn)()
	id := randomID()
	q := query(id)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		return answer{}, None, overTCP(dialError(err))
	}
	r := bufio.NewReader(conn)
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return answer{}, None, overTCP(dialError(err))
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > maxTCPAnswer {
		return answer{}, AnswerTooLong, nonsense(AnswerTooLong)
	}
	msg := make([]byte, n)
	switch _, err := io.ReadFull(r, msg); {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return answer{}, MalformedAnswer, nonsense(MalformedAnswer)
	case err != nil:
		return answer{}, None, overTCP(dialError(err))
	case r.Buffered() > 0:
		return answer{}, AnswerTooLong, nonsense(AnswerTooLong)
	}
	ans, reason := parseAnswer(msg, id)
	if reason == None && ans.cut {
		reason = MalformedAnswer // there is nowhere else to ask
	}
	if reason != None {
		return answer{}, reason, nonsense(reason)
	}
	return ans, None, nil
}

// interrupt makes conn fail when ctx ends. The function it returns must be
// called before conn is of no interest any more.
func interrupt(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}

func randomID() uint16 {
	var b [2]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint16(b[:])
}

// dialError says in words what err means. No answer in time is no more than
// that; anything else has its cause in it.
func dialError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return ErrNoAnswer
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return fmt.Errorf("%w (%w)", errUnreachable, err)
}

func overTCP(err error) error { return fmt.Errorf("%w over TCP", err) }

func nonsense(r Reason) error { return fmt.Errorf("gives an answer that is ignored (%v)", r) }
