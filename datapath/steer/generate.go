package steer

// The object is committed, so building needs no clang. The include paths are
// Debian's, of both architectures; the one that is not there is ignored.
// TestGenerated holds object and source together.

//go:generate go tool -modfile=../../packaging/tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type counters -type amount -type translation -type multicast_policy -type route -type network4 -type addr6 -type host -type eam -type pref64 -type share -type flow -type flow_key -type next_address bpf bpf/steer.c -- -mcpu=v2 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
