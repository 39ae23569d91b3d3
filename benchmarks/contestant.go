package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"tnat64d/internal/lab"
)

// contestant is one way for a program on the laptop to reach the server.
//
// To add one, write a type with these methods in a file contestant_NAME.go and
// name it in contestants. The harness does the rest: a lab of its own for it,
// turns in every round, a restart if it dies, and "absent" in the report where
// it is not installed.
type contestant interface {
	// id is for the command line and results.json: "tayga".
	id() string
	// title is for tables: "tayga".
	title() string
	// about says in a sentence what it is and how it was set up.
	about() string
	// packages are the Debian packages it needs.
	packages() []string
	// version finds what is installed. An error means that it is absent.
	version(ctx context.Context) (string, error)
	// cannot returns why a load is not for it, or "".
	cannot(load) string
	// start brings it up on the laptop of a lab without PLAT for measuring, of
	// one with a PLAT for the coverage table. ctx bounds the start only; what
	// it starts must end with the lab (lab.Host.Command sees to that).
	start(ctx context.Context, l *lab.Lab, s setup) (*service, error)
}

// setup is what a contestant is to be started with.
type setup struct {
	MTU    int `json:"mtu"`              // of all links
	Queues int `json:"queues,omitempty"` // of the translator; 0: its default
	EAM    int `json:"eam,omitempty"`    // entries of the table of explicit address mappings
	Maps   int `json:"maps,omitempty"`   // of a gateway, besides the laptop's
}

func (s setup) String() string {
	text := fmt.Sprintf("MTU %d", s.MTU)
	if s.Queues > 0 {
		text += fmt.Sprintf(", %d queues", s.Queues)
	}
	if s.EAM > 0 {
		text += fmt.Sprintf(", %d EAM entries", s.EAM)
	}
	if s.Maps > 0 {
		text += fmt.Sprintf(", %d maps", s.Maps)
	}
	return text
}

// service is a contestant at work.
type service struct {
	target  netip.Addr      // of the server, as a program on the laptop connects to it
	ipv4    bool            // packets reach the server by IPv4
	wrapper []string        // what a user types before the command: "tnat64"
	env     []string        // and sets in the environment
	pid     int             // of the translator; 0: there is no such process
	exited  <-chan struct{} // closed when it ends; nil: there is none
	output  *tail           // the last it said
	stop    func() error    // takes back what start did
}

// contestants are all there are, the baseline first, those on the router last.
func contestants() []contestant {
	return []contestant{native{}, shim{}, &command{}, tayga{}, clatd{}, networkManager{}, &daemon{engine: "user"}, &daemon{engine: "kernel"},
		forwarded{}, taygaRouter{}, &gateway{engine: "user"}, &gateway{engine: "kernel"}}
}

// byName are contestants that run only if they are asked for.
func byName() []contestant {
	return []contestant{&daemon{engine: "user", shared: true}, &daemon{engine: "kernel", shared: true}}
}

// choose returns the contestants that were asked for. The first is the
// baseline, which is always among them.
func choose(all []contestant, ids []string) ([]contestant, error) {
	if len(ids) == 0 {
		return all, nil
	}
	all = slices.Concat(all, byName())
	chosen := all[:1:1]
	for _, id := range ids {
		i := slices.IndexFunc(all, func(c contestant) bool { return c.id() == id })
		if i < 0 {
			var known []string
			for _, c := range all {
				known = append(known, c.id())
			}
			return nil, fmt.Errorf("unknown contestant %q; there are %s", id, strings.Join(known, ", "))
		}
		if !slices.ContainsFunc(chosen, func(c contestant) bool { return c.id() == id }) {
			chosen = append(chosen, all[i])
		}
	}
	return chosen, nil
}

// packageVersion returns the version of an installed Debian package.
func packageVersion(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name).Output()
	version, ok := strings.CutPrefix(string(out), "installed ")
	if err != nil || !ok {
		return "", fmt.Errorf("package %s of Debian is not installed", name)
	}
	return name + " " + version, nil
}

// tail keeps the last that was written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLength = 2000

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if n := len(t.text) - tailLength; n > 0 {
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(b), nil
}

// String returns what was kept; a nil tail has nothing.
func (t *tail) String() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
