package apt

import (
	"net/url"
	"os/exec"
	"testing"
)

func TestSite(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("no apt-get")
	}
	site, err := Site(t.Context())
	if err != nil {
		t.Skip(err) // an image without sources
	}
	if u, err := url.Parse(site); err != nil || u.Scheme == "" {
		t.Errorf("site %q: %v", site, err)
	}
}
