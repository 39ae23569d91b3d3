package main

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
)

// entries reads an archive back: name, mode in octal, major:minor and data of
// each file.
func entries(t *testing.T, b []byte) (list []string) {
	t.Helper()
	for {
		if len(b) < 110 || string(b[:6]) != "070701" {
			t.Fatalf("no header, but %.20q", b)
		}
		var field [13]int
		for i := range field {
			n, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			field[i] = int(n)
		}
		size, nameSize := field[6], field[11]
		name := string(b[110 : 110+nameSize-1])
		b = b[(110+nameSize+3)&^3:]
		data := string(b[:size])
		b = b[(size+3)&^3:]
		if name == "TRAILER!!!" {
			if len(b) > 0 {
				t.Errorf("%d bytes behind the end", len(b))
			}
			return list
		}
		device := strconv.Itoa(field[9]) + ":" + strconv.Itoa(field[10])
		list = append(list, strings.Join([]string{name, strconv.FormatInt(int64(field[1]), 8), device, data}, " "))
	}
}

func TestArchive(t *testing.T) {
	var b bytes.Buffer
	a := newArchive(&b)
	for _, err := range []error{
		a.file("/src/tun/test", 0o755, []byte("binary")),
		a.file("/src/tun/testdata/x", 0o644, []byte("12345678")),
		a.file("/src/tun/test", 0o644, []byte("again")), // a library that two programs need
		a.link("/bin", "usr/bin"),
		a.device("/dev/console", 5, 1),
		a.file("/init", 0o755, nil),
		a.close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"src 40755 0:0 ",
		"src/tun 40755 0:0 ",
		"src/tun/test 100755 0:0 binary",
		"src/tun/testdata 40755 0:0 ",
		"src/tun/testdata/x 100644 0:0 12345678",
		"bin 120777 0:0 usr/bin",
		"dev 40755 0:0 ",
		"dev/console 20600 5:1 ",
		"init 100755 0:0 ",
	}
	got := entries(t, b.Bytes())
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
