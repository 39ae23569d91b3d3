package e2e

import (
	"os"
	"testing"

	"tnat64d/internal/lab"
)

// TestHostileControl has a member of the control socket's group, without
// capabilities, who would name a resolver of his own and see the packets of
// others. Root's hook works beside him.
func TestHostileControl(t *testing.T) {
	t.Parallel()
	needProgram(t, "setpriv")
	w := newWorld(t, lab.Options{}, "")
	const group = "4242"
	if err := os.Lchown(w.daemon.Socket, -1, 4242); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ctl := built(t, "tnat64ctl")
	as := func(groups string, args ...string) (string, error) {
		return w.try(t, "setpriv", append([]string{"--reuid=65534", "--regid=65534", "--groups=" + groups, "--inh-caps=-all", "--bounding-set=-all",
			ctl, "-socket", w.daemon.Socket}, args...)...)
	}

	out, err := as(group, "status")
	if err != nil {
		t.Errorf("status: %v\n%s", err, out)
	}
	wants(t, out, "IPv4 is ready", lab.Uplink)
	out, err = as("65534", "status")
	if err == nil {
		t.Errorf("somebody outside of the group reads the status:\n%s", out)
	}
	wants(t, out, "no permission to talk to tnat64d")

	for what, args := range map[string][]string{
		"only root may trace": {"trace", "-c", "1"},
		"only root may nudge": {"nudge", "-interface", lab.Uplink, "-dns", "2001:db8::bad"},
	} {
		out, err := as(group, args...)
		if err == nil {
			t.Errorf("%s: a member of the group did\n%s", what, out)
		}
		wants(t, out, what, "hint:")
		w.wantLines(t, 1, what, "uid=65534")
	}
	if n := w.book.lines("set the DNS servers") + w.book.lines("packets are traced"); n != 0 {
		t.Errorf("the daemon did what the member of the group asked for:\n%s", w.book.String())
	}

	for range 2 { // the second changes nothing
		w.laptop(t, ctl, "-socket", w.daemon.Socket, "nudge", "-interface", lab.Uplink, "-dns", "2001:db8::53")
	}
	w.laptop(t, ctl, "-socket", w.daemon.Socket, "status") // the daemon has read the nudges
	w.wantLines(t, 1, "set the DNS servers", "uid=0")
	w.ping(t)
}
