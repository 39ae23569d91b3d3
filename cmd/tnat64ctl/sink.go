package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"tnat64d/internal/say"
)

// sink writes packets to a pcap file of raw IP with timestamps in nanoseconds,
// so that none of the input's precision is lost. The nil sink takes them and
// writes nothing.
type sink struct {
	file *os.File
	buf  *bufio.Writer
	pcap *pcapgo.Writer
}

// createCapture creates the file, unless there is none to write or it is the
// one that is being read.
func createCapture(name, input string) (*sink, error) {
	if name == "" {
		return nil, nil
	}
	if sameFile(name, input) {
		return nil, say.Usage(fmt.Errorf("OUT.pcap is IN.pcap, %q", name))
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	s := &sink{file: f, buf: bufio.NewWriter(f)}
	s.pcap = pcapgo.NewWriterNanos(s.buf)
	const snaplen = 262144 // what tcpdump takes; an IPv6 packet is far below
	if err := s.pcap.WriteFileHeader(snaplen, layers.LinkTypeRaw); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func (s *sink) write(at time.Time, ip []byte) error {
	if s == nil {
		return nil
	}
	if err := s.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(ip), Length: len(ip)}, ip); err != nil {
		return fmt.Errorf("cannot write %s: %w", s.file.Name(), err)
	}
	return nil
}

// Close finishes the file.
func (s *sink) Close() error {
	if s == nil {
		return nil
	}
	if err := errors.Join(s.buf.Flush(), s.file.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", s.file.Name(), err)
	}
	return nil
}
