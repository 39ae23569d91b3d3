package shim

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A resolver that fails at first is asked again, one that has no answer is not.
func TestDiscoverAsksAgain(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var aaaa, asked atomic.Int32 // whether there is an answer, and how many questions came
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		r := new(dns.Msg).SetReply(q)
		r.RecursionAvailable = true
		if aaaa.Load() == 1 && q.Question[0].Qtype == dns.TypeAAAA {
			r.Answer = append(r.Answer, &dns.AAAA{
				Hdr:  dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: 60},
				AAAA: net.ParseIP("64:ff9b::c000:aa"),
			})
		}
		w.WriteMsg(r)
	})}
	go server.ActivateAndServe()
	defer server.Shutdown()

	var refused atomic.Int32 // so many more questions get no answer
	was := net.DefaultResolver
	defer func() { net.DefaultResolver = was }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if refused.Add(-1) >= 0 {
			return nil, errors.New("refused")
		}
		var d net.Dialer
		return d.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}

	aaaa.Store(1)
	refused.Store(4)
	told := 0
	f, err := Discover(t.Context(), time.Hour, func(error) { told++ })
	if want := netip.MustParsePrefix("64:ff9b::/96"); err != nil || f.Prefix != want || told != 1 {
		t.Errorf("found %+v, %v, told %d times", f, err, told)
	}

	aaaa.Store(0)
	asked.Store(0)
	ctx, cancel := context.WithTimeout(t.Context(), 3*resolverPause)
	defer cancel()
	if _, err := Discover(ctx, resolverPause*3/2, func(err error) {
		if !errors.Is(err, errNone) {
			t.Error(err)
		}
		asked.Store(0)
	}); err == nil || !errors.Is(err, ErrNoPrefix) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	} else if errors.Is(err, ErrNoPrefix) && !strings.Contains(err.Error(), "no AAAA record") {
		t.Error(err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times more", n)
	}
}
