package main

import (
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func TestDHCPAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		giving bool
		asked  layers.DHCPMsgType
		want   layers.DHCPMsgType // unspecified: silence
	}{
		{"discover", true, layers.DHCPMsgTypeDiscover, layers.DHCPMsgTypeOffer},
		{"request", true, layers.DHCPMsgTypeRequest, layers.DHCPMsgTypeAck},
		{"discover, no longer", false, layers.DHCPMsgTypeDiscover, layers.DHCPMsgTypeUnspecified},
		{"request, no longer", false, layers.DHCPMsgTypeRequest, layers.DHCPMsgTypeNak},
		{"release", true, layers.DHCPMsgTypeRelease, layers.DHCPMsgTypeUnspecified},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := dhcpServer{giving: c.giving}
			asked := &layers.DHCPv4{Xid: 7, ClientHWAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Options: layers.DHCPOptions{
				layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(c.asked)}),
			}}
			answer := s.answer(asked)
			if answer == nil {
				if c.want != layers.DHCPMsgTypeUnspecified {
					t.Fatalf("silence, want %v", c.want)
				}
				return
			}
			b := gopacket.NewSerializeBuffer()
			if err := answer.SerializeTo(b, gopacket.SerializeOptions{FixLengths: true}); err != nil {
				t.Fatal(err)
			}
			var got layers.DHCPv4
			if err := got.DecodeFromBytes(b.Bytes(), gopacket.NilDecodeFeedback); err != nil {
				t.Fatal(err)
			}
			if kind := layers.DHCPMsgType(got.Options[0].Data[0]); kind != c.want || got.Xid != 7 {
				t.Errorf("%v for %d, want %v", kind, got.Xid, c.want)
			}
			if given := !got.YourClientIP.Equal(net.IPv4zero); given == (c.want == layers.DHCPMsgTypeNak) {
				t.Errorf("address %v in %v", got.YourClientIP, c.want)
			}
		})
	}
}
