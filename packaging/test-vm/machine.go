package main

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tnat64d/internal/lab"
)

// machine is a running virtual machine.
type machine struct {
	dir    string
	qemu   *lab.Cmd
	exited chan struct{}
	conn   net.Conn
	lines  chan string // from the agent
	boot   string      // id of the present boot
}

// commandLine is the kernel's. What protects against speculative execution
// costs most of the speed and protects nobody here.
const commandLine = "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 nowatchdog no5lvl loglevel=4 " +
	"spectre_v2=off spec_store_bypass_disable=off retbleed=off pti=off systemd.show_status=no"

// boot starts the machine with the package on its second disk, and returns when
// its agent answers.
func boot(ctx context.Context, img image, packages map[string]string, n *network, verbose bool) (*machine, error) {
	dir, err := os.MkdirTemp("", "tnat64-test-vm-")
	if err != nil {
		return nil, err
	}
	m := &machine{dir: dir, exited: make(chan struct{}), lines: make(chan string)}
	if err := m.start(ctx, img, packages, n, verbose); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, m.waitReady(ctx)
}

func (m *machine) start(ctx context.Context, img image, packages map[string]string, n *network, verbose bool) error {
	packageDisk := filepath.Join(m.dir, "package.tar")
	if err := writeTar(packageDisk, packages); err != nil {
		return err
	}
	socket := filepath.Join(m.dir, "agent")
	m.qemu = n.lab.Laptop.Command(ctx, "qemu-system-x86_64",
		"-m", "768", "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none",
		"-accel", "tcg,thread=single", "-cpu", "max",
		"-kernel", img.kernel, "-initrd", img.initrd, "-append", commandLine,
		"-drive", "file="+img.disk+",format=raw,if=virtio,snapshot=on",
		"-drive", "file="+packageDisk+",format=raw,if=virtio,readonly=on",
		"-netdev", "tap,id=net,ifname="+tapName+",script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=net,mac=52:54:00:00:64:01",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,path="+socket+",server=on,wait=off",
		"-device", "virtserialport,chardev=agent,name=org.test.agent",
		"-device", "virtio-rng-pci",
		"-serial", "stdio")
	m.qemu.Stdout = io.Discard
	if verbose {
		m.qemu.Stdout = os.Stdout
	}
	m.qemu.Stderr = os.Stderr
	if err := m.qemu.Start(); err != nil {
		return err
	}
	go func() {
		m.qemu.Wait()
		close(m.exited)
	}()
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			m.conn = conn
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.exited:
			return errors.New("qemu ended at once")
		case <-time.After(50 * time.Millisecond):
		}
	}
	go func() {
		defer close(m.lines)
		for in := bufio.NewReader(m.conn); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			m.lines <- strings.TrimSpace(line)
		}
	}()
	return nil
}

// Close ends the machine the hard way.
func (m *machine) Close() error {
	if m.conn != nil {
		m.conn.Close()
		go func() { // the reader may hold a line
			for range m.lines {
			}
		}()
	}
	if m.qemu != nil && m.qemu.Process != nil {
		m.qemu.Process.Kill()
		<-m.exited
	}
	return os.RemoveAll(m.dir)
}

// next is the agent's next line.
func (m *machine) next(ctx context.Context) (string, error) {
	select {
	case line, ok := <-m.lines:
		if !ok {
			return "", errors.New("qemu has ended")
		}
		return line, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// waitReady waits until the agent of another boot than the last one answers.
func (m *machine) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Minute, errors.New("the machine does not boot"))
	defer cancel()
	for {
		line, err := m.next(ctx)
		if err != nil {
			return err
		}
		if id, ok := strings.CutPrefix(line, "ready "); ok && id != m.boot {
			m.boot = id
			return nil
		}
	}
}

// sh runs a script on the machine and returns what it printed.
func (m *machine) sh(ctx context.Context, script string) (output string, status int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 11*time.Minute, fmt.Errorf("no answer to %q", script))
	defer cancel()
	if _, err := fmt.Fprintln(m.conn, base64.StdEncoding.EncodeToString([]byte(script))); err != nil {
		return "", 0, err
	}
	line, err := m.next(ctx)
	if err != nil {
		return "", 0, err
	}
	var encoded string
	// No output is no third word.
	if n, _ := fmt.Sscanf(line, "done %d %s", &status, &encoded); n < 1 {
		return "", 0, fmt.Errorf("the agent says %q", line)
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	return strings.TrimRight(string(decoded), "\n"), status, err
}

// writeTar makes an archive of packages, each as NAME.deb. As a disk it gets
// longer, which tar does not mind, and dpkg would.
func writeTar(path string, packages map[string]string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	size := int64(1 << 20)
	for name, file := range packages {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name + ".deb", Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		size += int64(len(data))
	}
	return errors.Join(w.Close(), f.Truncate(size&^511))
}
