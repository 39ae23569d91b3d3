package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// object is an ELF file with one section .modinfo.
func object(info string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	headers := uint64(64 + len(info) + len(names))
	var b bytes.Buffer
	put := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	put(elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: headers, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
	})
	put([]byte(info + names))
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(info)), Addralign: 1})
	put(elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: 64 + uint64(len(info)), Size: uint64(len(names)), Addralign: 1})
	return b.Bytes()
}

func TestLoadOrder(t *testing.T) {
	dir := t.TempDir()
	for path, info := range map[string]string{
		"net/8021q/8021q.ko":    "license=GPL\x00depends=mrp,garp\x00intree=Y\x00",
		"net/802/mrp.ko":        "depends=\x00",
		"net/802/garp.ko":       "depends=stp\x00",
		"net/802/stp.ko":        "depends=l-l-c\x00",
		"net/llc/l_l_c.ko":      "license=GPL\x00",
		"net/bridge/bridge.ko":  "depends=stp\x00",
		"drivers/net/unused.ko": "not even wanted",
	} {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, object(info), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	modules, err := loadOrder(dir, []string{"8021q", "built_in", "bridge"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range modules {
		got = append(got, m.name)
	}
	if want := []string{"mrp", "l_l_c", "stp", "garp", "8021q", "bridge"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
}

func TestNotAModule(t *testing.T) {
	for name, data := range map[string][]byte{
		"text":       []byte("#!/bin/sh\n"),
		"no modinfo": bytes.Replace(object("depends=\x00"), []byte(".modinfo"), []byte(".another"), 1),
	} {
		if _, err := dependencies(data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
