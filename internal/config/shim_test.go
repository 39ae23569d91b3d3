package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseShim(t *testing.T) {
	got, err := ParseShim("t.toml", []byte(`
[shim]
local    = ["192.168.0.0/16", "10.0.0.1"]
fallback = "first"
method   = "namespace"
[[shim.route]]
network = "198.51.100.0/24"
pref64  = "2001:db8:64::/96"
[[shim.route]]
network = "203.0.113.0/24"
pref64  = "none"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Shim{
		Local:    []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("10.0.0.1/32")},
		Fallback: ShimFallbackFirst,
		Method:   ShimMethodNamespace,
		Routes: []ShimRoute{
			{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:64::/96")},
			{netip.MustParsePrefix("203.0.113.0/24"), netip.Prefix{}},
		},
	}
	if d := cmp.Diff(want, got, cmpNetip); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	for _, text := range []string{"", "[shim]\n"} {
		if got, err := ParseShim("t.toml", []byte(text)); err != nil || cmp.Diff(Shim{}, got, cmpNetip) != "" {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestParseShimMistakes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"[shim]\nfallback = \"sometimes\"", `t.toml:2:12: shim.fallback: "sometimes" is not an allowed value`},
		{"[shim]\nmethod = \"socket\"", `did you mean "sockets"`},
		{"[shim]\nlocal = [\"2001:db8::/32\"]", `"2001:db8::/32" is IPv6, not IPv4`},
		{"[shim]\nlocal = [\"10.0.0.1/8\"]", `did you mean "10.0.0.0/8"`},
		{"[shim]\nlocal = [\"10.0.0.0/8\", \"10.0.0.0/8\"]", "occurs twice"},
		{"[clat]\n", `unknown table "clat"`},
		{"[shim]\npref64 = \"64:ff9b::/96\"", `unknown key "pref64" in [shim]`},
		{"[[shim.route]]\nnetwork = \"10.0.0.0/8\"", "a required key is missing"},
		{"[[shim.route]]\nnetwork = \"10.0.0.0/8\"\npref64 = \"64:ff9b::/97\"", `t.toml:3:10: shim.route.pref64: "64:ff9b::/97"`},
		{"[[shim.route]]\nnetwork = \"10.0.0.0/8\"\npref64 = \"none\"\n[[shim.route]]\nnetwork = \"10.0.0.0/8\"\npref64 = \"none\"", "occurs twice"},
		{"[shim]\nroute = 1", "not"},
		{"[shim", "invalid TOML"},
		{strings.Repeat("#", maxSize+1), "too large"},
	} {
		_, err := ParseShim("t.toml", []byte(c.text))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.60q: %v", c.text, err)
			continue
		}
		if !strings.Contains(e.Detail(), c.want) {
			t.Errorf("%.60q: %q is missing in\n%s", c.text, c.want, e.Detail())
		}
	}
}

func TestShimPath(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", "/nonexistent")
	if got := ShimPath(); got != ShimDefaultPath {
		t.Errorf("without a file of the user's: %s", got)
	}
	path := filepath.Join(dir, "tnat64", "tnat64.toml")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("[shim]\nfallback = \"never\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := ShimPath(); got != path {
		t.Errorf("%s, want %s", got, path)
	}
	if s, err := LoadShim(""); err != nil || s.Fallback != ShimFallbackNever {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := LoadShim(filepath.Join(dir, "absent")); err == nil {
		t.Error("a file that was named may be absent")
	}
}

func FuzzParseShim(f *testing.F) {
	f.Add([]byte("[shim]\nlocal = [\"10.0.0.0/8\"]\n[[shim.route]]\nnetwork = \"0.0.0.0/0\"\npref64 = \"none\""))
	f.Add([]byte("shim.route = [1, {}, [], {network = {}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := ParseShim("f", data)
		if err == nil {
			return
		}
		var e *Error
		if errors.As(err, &e) && e.Detail() == "" {
			t.Error("a mistake without words")
		}
	})
}
