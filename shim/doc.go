// Package shim runs one program through NAT64, without privilege and without
// any change to the host (RFC 6052, RFC 7050).
//
//	cmd := shim.Command(policy, "curl", "http://198.51.100.7/")
//	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
//	status, err := cmd.Run()
//
// A supervisor process, the parent of the program, is told by the kernel
// (seccomp user notification) about the few system calls that name IPv4
// addresses, and answers them:
//
//   - connect on a TCP socket gets an AF_INET6 socket to PREF64 + address under
//     the same descriptor number. From then on the supervisor is not involved.
//   - A datagram or ping socket is created in a hidden user and network namespace
//     where every address is local. A relay, in a process of its own, forwards
//     what is sent there; no system call of the socket is trapped afterwards.
//   - getpeername, getsockname and SO_DOMAIN still show IPv4.
//
// Where the kernel refuses a part of that, the package does with what is left;
// [Cmd.Explain] says what and why. See [Method].
//
// Everything that is read from the program's memory is untrusted. The supervisor
// reads it once and acts on its copy. It runs as the same user as the program
// and does nothing for it that the program could not do by itself.
//
// Supervisor and relay are the calling executable, started again: its main
// must call [Stage] first.
//
// What it does not do: translate packets, or reach programs that gain
// privilege by setuid (no_new_privs takes it from them).
package shim
