package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"tnat64d/internal/control"
)

// ngSink writes a trace as pcapng: raw IP, what came marked as inbound and what
// came out of the translator as outbound.
type ngSink struct {
	name string
	file io.Closer // nil: standard output, which is not ours to close
	ng   *pcapgo.NgWriter
}

// lastWrite is how long a trace that ends waits for the reader of a pipe.
const lastWrite = time.Second

// createTrace creates the file name with mode 0600, see createPrivate; "-" is
// stdout.
func createTrace(ctx context.Context, name string, stdout io.Writer) (*ngSink, error) {
	s := &ngSink{name: name}
	w := stdout
	if name == "-" {
		s.name = "standard output"
	} else {
		f, err := createPrivate(ctx, name)
		if err != nil {
			return nil, err
		}
		// A pipe that is full and not read must not keep Ctrl-C from ending the
		// trace. Files that never block have no deadline.
		context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Now().Add(lastWrite)) })
		w, s.file = f, f
	}
	var err error
	s.ng, err = pcapgo.NewNgWriterInterface(w, pcapgo.NgInterface{
		Name: "tnat64d", LinkType: layers.LinkTypeRaw, SnapLength: control.MaxSnaplen, TimestampResolution: 9,
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{OS: "Linux", Application: "tnat64ctl trace"}})
	if err == nil {
		err = s.ng.Flush() // whoever reads a pipe wants to begin
	}
	if err != nil {
		return nil, errors.Join(s.failed(err), s.Close())
	}
	return s, nil
}

func (s *ngSink) record(r *control.Record) error {
	comment := r.Uplink + ": " + verdictText(r)
	in := pcapgo.NgPacketOptions{
		Comments: []string{comment},
		Flags:    &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound},
	}
	if r.Missed > 0 {
		in.DropCount = &r.Missed
	}
	if err := s.packet(r, control.Packet{Data: r.In, Len: r.InLen}, in); err != nil {
		return err
	}
	for i, p := range r.Out {
		c := comment
		if len(r.Out) > 1 {
			c += fmt.Sprintf(", %d of %d", i+1, len(r.Out))
		}
		err := s.packet(r, p, pcapgo.NgPacketOptions{
			Comments: []string{c},
			Flags:    &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionOutbound},
		})
		if err != nil {
			return err
		}
	}
	if err := s.ng.Flush(); err != nil {
		return s.failed(err)
	}
	return nil
}

func (s *ngSink) packet(r *control.Record, p control.Packet, o pcapgo.NgPacketOptions) error {
	ci := gopacket.CaptureInfo{Timestamp: r.Time, CaptureLength: len(p.Data), Length: p.Len}
	if err := s.ng.WritePacketWithOptions(ci, p.Data, o); err != nil {
		return s.failed(err)
	}
	return nil
}

func (s *ngSink) failed(err error) error { return fmt.Errorf("cannot write %s: %w", s.name, err) }

// Close finishes the file. All that was recorded is written.
func (s *ngSink) Close() error {
	if s.file == nil {
		return nil
	}
	if err := s.file.Close(); err != nil {
		return s.failed(err)
	}
	return nil
}
