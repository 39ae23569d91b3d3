package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the modules that the tests need. On a real system the kernel loads
// them by itself when they are asked for.
var wanted = []string{
	"tun", "veth", "dummy", "bridge", "8021q", "vxlan",
	"bonding", "ppp_async", "wireguard", "ip6_gre", // uplinks of the lab
	"crc32c_generic", "nf_tables", "nft_objref", "nft_fwd_netdev", // libcrc32c, which nf_tables needs, asks for an implementation
	"nft_chain_nat", "nft_ct", "nft_connlimit", "nft_limit", "nft_numgen", "nft_hash", "nft_nat", "nft_masq", "nft_fib_ipv6", "nft_reject_ipv4", "nft_reject_ipv6", "nf_conntrack_netlink", // NAT44
	"sch_ingress", "cls_bpf", "cls_u32", "cls_matchall", "act_bpf", "act_mirred",
	"tcp_diag", "udp_diag", // to end connections
	"nfnetlink", "xfrm_user", // families that a netlink.Handle opens by default
}

// module is a kernel module.
type module struct {
	name string
	data []byte // the ELF object
}

// loadOrder finds the wanted modules below dir and those that they depend on,
// which come first. A module that is not there is taken to be a part of the
// kernel; if it is not, the tests will tell.
//
// The packages of Debian have no modules.dep, as depmod writes it when they are
// installed; what it knows is in the modules themselves.
func loadOrder(dir string, wanted []string) ([]module, error) {
	paths := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		base, _, ok := strings.Cut(filepath.Base(path), ".ko")
		if err == nil && ok && d.Type().IsRegular() {
			paths[strings.ReplaceAll(base, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var order []module
	var add func(name string) error
	add = func(name string) error {
		path, ok := paths[name]
		if !ok || slices.ContainsFunc(order, func(m module) bool { return m.name == name }) {
			return nil
		}
		data, err := readModule(path)
		if err != nil {
			return err
		}
		needs, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		order = append(order, module{name, data})
		return nil
	}
	for _, name := range wanted {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// readModule reads a module, which may be compressed.
func readModule(path string) ([]byte, error) {
	program := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[filepath.Ext(path)]
	if program == "" {
		return os.ReadFile(path)
	}
	out, err := output(exec.Command(program, "-dc", path))
	return []byte(out), err
}

// dependencies are the modules that a module names in its section .modinfo,
// which is a list of assignments that end in a zero byte.
func dependencies(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("not a kernel module: no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for assignment := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(assignment), "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}
