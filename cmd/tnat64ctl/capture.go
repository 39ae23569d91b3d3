package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"tnat64d/internal/say"
	"tnat64d/siit"
)

// capture reads the packets of a capture file.
type capture struct {
	name string
	read func() ([]byte, gopacket.CaptureInfo, error)
	link func(gopacket.CaptureInfo) layers.LinkType
	io.Closer
}

// captured is a packet as it was captured, from its IP header on.
type captured struct {
	ip   []byte // good until the next one is read
	time time.Time
	// reason is why there is no IP packet, or siit.None.
	reason siit.Reason
}

// openCapture opens a pcap or pcapng file; "-" is stdin.
func openCapture(name string, stdin io.Reader) (*capture, error) {
	c := &capture{name: name, Closer: io.NopCloser(nil)}
	r := stdin
	if name == "-" {
		c.name = "standard input"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		r, c.Closer = f, f
	}
	if err := c.header(bufio.NewReader(r)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ngMagic is the type of a pcapng section header, the same in both byte orders.
var ngMagic = []byte{0x0a, 0x0d, 0x0d, 0x0a}

func (c *capture) header(r *bufio.Reader) error {
	magic, err := r.Peek(len(ngMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if bytes.Equal(magic, ngMagic) {
		ng, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
		if err != nil {
			return c.notACapture(err)
		}
		c.read = ng.ZeroCopyReadPacketData
		c.link = func(ci gopacket.CaptureInfo) layers.LinkType {
			link, _ := ci.AncillaryData[0].(layers.LinkType)
			return link
		}
		return nil
	}
	p, err := pcapgo.NewReader(r)
	if err != nil {
		return c.notACapture(err)
	}
	c.read = p.ZeroCopyReadPacketData
	c.link = func(gopacket.CaptureInfo) layers.LinkType { return p.LinkType() }
	return nil
}

func (c *capture) notACapture(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the file ends in its header")
	}
	return say.Hint(fmt.Errorf("%s is not a pcap or pcapng file: %w", c.name, err), "make one with tcpdump -w FILE")
}

// next returns packet n, or io.EOF after the last.
func (c *capture) next(n int) (captured, error) {
	frame, ci, err := c.read()
	switch {
	case err == io.EOF && ci.Length == 0:
		return captured{}, io.EOF
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return captured{}, fmt.Errorf("%s: the file ends in the middle of packet %d", c.name, n)
	case err != nil:
		return captured{}, fmt.Errorf("%s: packet %d: %w", c.name, n, err)
	}
	ip, reason, ok := payload(c.link(ci), frame)
	if !ok {
		return captured{}, say.Hint(fmt.Errorf("%s: packet %d: link type %d (%v) is not supported", c.name, n, c.link(ci), c.link(ci)),
			"supported are raw IP, Ethernet and Linux cooked captures; capture on one interface with tcpdump -i")
	}
	p := captured{ip: ip, time: ci.Timestamp, reason: reason}
	if p.time.IsZero() {
		// A Simple Packet Block of pcapng has none, and the writer would put now.
		p.time = time.Unix(0, 0)
	}
	return p, nil
}

// Link types that the library has no name for: DLT_RAW as BSD and Linux
// number it in files of their own.
const (
	linkRawLinux layers.LinkType = 12
	linkRawBSD   layers.LinkType = 14
)

// payload finds the IP packet in a frame. The reason says why there is none;
// ok is false for a link type that is not understood.
func payload(link layers.LinkType, frame []byte) (ip []byte, reason siit.Reason, ok bool) {
	switch link {
	case layers.LinkTypeRaw, linkRawLinux, linkRawBSD, layers.LinkTypeIPv4, layers.LinkTypeIPv6:
		return frame, siit.None, true
	case layers.LinkTypeEthernet:
		ip, reason = untag(frame, 12, 14)
	case layers.LinkTypeLinuxSLL:
		ip, reason = untag(frame, 14, 16)
	case layers.LinkTypeLinuxSLL2:
		ip, reason = untag(frame, 0, 20)
	default:
		return nil, siit.None, false
	}
	return ip, reason, true
}

// maxTags bounds how many VLAN tags a frame may carry: 802.1ad has two.
const maxTags = 4

// untag skips a link header of hlen bytes with the protocol at offset proto,
// and the 802.1Q and 802.1ad tags behind it.
func untag(frame []byte, proto, hlen int) ([]byte, siit.Reason) {
	if len(frame) < hlen {
		return nil, siit.Truncated
	}
	t := layers.EthernetType(binary.BigEndian.Uint16(frame[proto:]))
	frame = frame[hlen:]
	for range maxTags {
		switch t {
		case layers.EthernetTypeIPv4, layers.EthernetTypeIPv6:
			return frame, siit.None
		case layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ, 0x9100:
			if len(frame) < 4 {
				return nil, siit.Truncated
			}
			t = layers.EthernetType(binary.BigEndian.Uint16(frame[2:]))
			frame = frame[4:]
		default:
			return nil, siit.NotIP
		}
	}
	return nil, siit.NotIP
}
