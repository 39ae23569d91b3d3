package main

import "testing"

func TestField(t *testing.T) {
	const paragraph = `Package: linux-image-amd64
Source: linux-signed-amd64 (6.1.192+2)
Version: 6.1.192-2
Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)
Description-en: Linux for 64-bit PCs (meta-package)
 Depends: this is not a field
`
	for name, want := range map[string]string{
		"Version": "6.1.192-2",
		"Depends": "linux-image-6.1.0-56-amd64 (= 6.1.192-2)",
		"Absent":  "",
	} {
		if got := field(paragraph, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
