package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tnat64ctl": main})
}

// TestScripts runs the command as a user does. The scripts have a few commands
// of their own:
//
//	pcap FILE LINKTYPE PACKETS    make a capture from lines of hexadecimal
//	pcapng FILE LINKTYPE PACKETS  the same in the newer format
//	cut FILE N                    remove the last N bytes
//	unpcap FILE TEXT              write what a capture of raw IP has as text
//	status N COMMAND...           the exit status must be N
//	daemon ...                    a daemon's control socket
//	unpcapng FILE TEXT            write what a trace has as text
//
// A line of PACKETS may have "+N" for N bytes more that were not captured.
// Packet number i has the time i seconds and i nanoseconds.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"pcap":     func(ts *testscript.TestScript, neg bool, args []string) { writeCapture(ts, args, false) },
			"pcapng":   func(ts *testscript.TestScript, neg bool, args []string) { writeCapture(ts, args, true) },
			"cut":      cut,
			"unpcap":   unpcap,
			"status":   status,
			"daemon":   daemon,
			"unpcapng": unpcapng,
		},
	})
}

func writeCapture(ts *testscript.TestScript, args []string, ng bool) {
	link, err := strconv.Atoi(args[1])
	ts.Check(err)
	var packets []rawPacket
	for l := range strings.Lines(ts.ReadFile(args[2])) {
		l, _, _ = strings.Cut(l, "#")
		text, missing, _ := strings.Cut(l, "+")
		b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
		ts.Check(err)
		if len(b) == 0 {
			continue
		}
		p := rawPacket{data: b, length: len(b)}
		if missing = strings.TrimSpace(missing); missing != "" {
			n, err := strconv.Atoi(missing)
			ts.Check(err)
			p.length += n
		}
		packets = append(packets, p)
	}
	var b bytes.Buffer
	ts.Check(makeCapture(&b, layers.LinkType(link), ng, packets))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o666))
}

type rawPacket struct {
	data   []byte
	length int // on the wire
}

func makeCapture(b *bytes.Buffer, link layers.LinkType, ng bool, packets []rawPacket) error {
	var write func(gopacket.CaptureInfo, []byte) error
	if ng {
		w, err := pcapgo.NewNgWriter(b, link)
		if err != nil {
			return err
		}
		defer w.Flush()
		write = w.WritePacket
	} else {
		w := pcapgo.NewWriterNanos(b)
		if err := w.WriteFileHeader(262144, link); err != nil {
			return err
		}
		write = w.WritePacket
	}
	for i, p := range packets {
		n := int64(i + 1)
		if err := write(gopacket.CaptureInfo{Timestamp: time.Unix(n, n), CaptureLength: len(p.data), Length: p.length}, p.data); err != nil {
			return err
		}
	}
	return nil
}

func cut(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	name := ts.MkAbs(args[0])
	fi, err := os.Stat(name)
	ts.Check(err)
	ts.Check(os.Truncate(name, fi.Size()-int64(n)))
}

func unpcap(ts *testscript.TestScript, neg bool, args []string) {
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	ts.Check(err)
	var b strings.Builder
	fmt.Fprintf(&b, "link type %d\n", r.LinkType())
	for {
		data, ci, err := r.ReadPacketData()
		if err != nil {
			break
		}
		fmt.Fprintf(&b, "%d.%09d %x\n", ci.Timestamp.Unix(), ci.Timestamp.Nanosecond(), data)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o666))
}

// status runs a command whose exit status matters.
func status(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}
