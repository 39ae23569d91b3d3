package pref64

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
)

// TestSolicitor shows when Router Solicitations go out (RFC 4861 section 6.3.7).
// Each case is a script of events at seconds since the start; the solicitor's
// clock moves on by itself between them.
func TestSolicitor(t *testing.T) {
	type event struct {
		at   float64
		what string // solicit, attach, router (an RA), no-router (an RA with lifetime 0), down, up
	}
	for _, c := range []struct {
		name   string
		events []event
		want   []float64 // when solicitations were sent
	}{
		{"no answer: three, 4 s apart", []event{{0, "solicit"}}, []float64{0, 4, 8}},
		{"answered", []event{{0, "solicit"}, {1, "router"}}, []float64{0}},
		{"answered by a router that is none", []event{{0, "solicit"}, {1, "no-router"}}, []float64{0, 4, 8}},
		{"answered before the first", []event{{0.5, "router"}}, nil},
		{"asked again", []event{{0, "solicit"}, {1, "router"}, {60, "solicit"}, {61, "router"}}, []float64{0, 60}},
		{"asked again too soon", []event{{0, "solicit"}, {1, "router"}, {2, "solicit"}}, []float64{0, 4, 8, 12}},
		{"attached anew, soon after", []event{{0, "solicit"}, {1, "router"}, {2, "attach"}}, []float64{0, 2, 6, 10}},
		{"attached anew, at once", []event{{0, "solicit"}, {0.25, "attach"}, {2, "router"}}, []float64{0, 1}},
		{"attached many times", []event{{0, "attach"}, {0.25, "attach"}, {0.5, "attach"}, {0.75, "attach"}, {1.25, "attach"}, {1.5, "router"}}, []float64{0, 1}},
		{"attached anew, and asked", []event{{0, "solicit"}, {1, "attach"}, {1, "solicit"}, {2, "router"}}, []float64{0, 1}},
		{"no address for 2 s", []event{{0, "down"}, {0, "solicit"}, {1.9, "up"}}, []float64{2, 6, 10}},
		{"never an address", []event{{0, "down"}, {0, "solicit"}}, nil},
		{"goes down in between", []event{{0, "solicit"}, {1, "down"}, {5.2, "up"}}, []float64{0, 5.5, 9.5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var (
				s     solicitor
				start = time.Unix(1e9, 0)
				down  bool
				got   []float64
				tries int
			)
			advance := func(until time.Time) {
				for s.left > 0 && !s.next.After(until) {
					if tries++; tries > 100 {
						t.Fatal("does not end")
					}
					now := s.next
					if down {
						s.failed(now)
					} else {
						got = append(got, now.Sub(start).Seconds())
						s.sent(now)
					}
				}
			}
			for _, e := range c.events {
				now := start.Add(time.Duration(e.at * float64(time.Second)))
				advance(now)
				switch e.what {
				case "solicit":
					s.start(now)
				case "attach":
					s.attach(now)
				case "router":
					s.heard(&RouterAdvertisement{RouterLifetime: time.Hour})
				case "no-router":
					s.heard(&RouterAdvertisement{})
				case "down", "up":
					down = e.what == "down"
				}
			}
			advance(start.Add(time.Hour))
			if len(got) != len(c.want) {
				t.Fatalf("sent at %v, want %v", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Fatalf("sent at %v, want %v", got, c.want)
				}
			}
		})
	}
}

// TestSolicitorGivesUp: the end of a round in which nothing could be sent is
// told once.
func TestSolicitorGivesUp(t *testing.T) {
	var s solicitor
	now := time.Unix(1e9, 0)
	s.start(now)
	over, tries := 0, 0
	for ; s.left > 0 && tries < 100; tries++ {
		if s.failed(s.next) {
			over++
		}
	}
	if over != 1 || tries != maxSolicitations*maxRetries || s.next.Sub(now) != maxSolicitations*solicitationInterval {
		t.Errorf("told %d times, %d tries in %v", over, tries, s.next.Sub(now))
	}
}

func TestSolicitation(t *testing.T) {
	for _, c := range []struct{ name, link, want string }{
		{"Ethernet", "020000000001", "8500000000000000" + "0101020000000001"},
		{"no link-layer address", "", "8500000000000000"},
		{"IP over InfiniBand", "000102030405060708090a0b0c0d0e0f10111213",
			"8500000000000000" + "0103000102030405060708090a0b0c0d0e0f101112130000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := solicitation(unhex(t, c.link))
			if hex.EncodeToString(got) != c.want {
				t.Errorf("got %x, want %s", got, c.want)
			}
		})
	}
	m, err := ndp.ParseMessage(solicitation([]byte{2, 0, 0, 0, 0, 1}))
	if err != nil {
		t.Fatal(err)
	}
	if lla, ok := m.(*ndp.RouterSolicitation).Options[0].(*ndp.LinkLayerAddress); !ok || lla.Direction != ndp.Source || lla.Addr.String() != "02:00:00:00:00:01" {
		t.Errorf("ndp reads %+v", m)
	}
}
