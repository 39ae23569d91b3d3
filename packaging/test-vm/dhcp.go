package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Addresses of native IPv4 on the link; the lab's isp routes them back to the
// router.
var (
	router4  = net.IPv4(192, 0, 2, 65).To4()
	machine4 = net.IPv4(192, 0, 2, 70).To4()
	mask4    = net.CIDRMask(26, 32)
)

const (
	routerLink = "lan0" // the router's interface
	// The client asks again after half of it, and gives up after all of it, which a
	// starved emulation must not reach.
	leaseTime = 2 * time.Minute
)

// dhcpServer is a DHCPv4 server (RFC 2131) for one client.
type dhcpServer struct {
	conn net.PacketConn

	mu     sync.Mutex
	giving bool
}

// startDHCP gives the link native IPv4.
func (n *network) startDHCP(ctx context.Context) error {
	address := fmt.Sprintf("%s/26", router4)
	if out, err := n.lab.Router.Command(ctx, "ip", "addr", "replace", address, "dev", routerLink).CombinedOutput(); err != nil {
		return fmt.Errorf("address %s: %w\n%s", address, err, out)
	}
	n.mu.Lock()
	n.giving = true
	n.mu.Unlock()
	if n.conn != nil {
		return nil
	}
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var errs []error
		err := c.Control(func(fd uintptr) {
			errs = append(errs,
				syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, routerLink),
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1))
		})
		return errors.Join(append(errs, err)...)
	}}
	err := n.lab.Router.Do(func() (err error) {
		n.conn, err = listen.ListenPacket(ctx, "udp4", ":67")
		return err
	})
	if err != nil {
		return fmt.Errorf("DHCP server: %w", err)
	}
	go n.serveDHCP()
	return nil
}

// refuseDHCP takes native IPv4 away: nothing is offered any more, and who asks
// for more time is told that its address is not valid here.
func (n *network) refuseDHCP() {
	n.mu.Lock()
	n.giving = false
	n.mu.Unlock()
}

func (n *network) stopDHCP() {
	if n.conn != nil {
		n.conn.Close()
	}
}

func (s *dhcpServer) serveDHCP() {
	buf := make([]byte, 1500)
	for {
		size, _, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var asked layers.DHCPv4
		if asked.DecodeFromBytes(buf[:size], gopacket.NilDecodeFeedback) != nil || asked.Operation != layers.DHCPOpRequest {
			continue
		}
		s.mu.Lock()
		answer := s.answer(&asked)
		s.mu.Unlock()
		if answer == nil {
			continue
		}
		b := gopacket.NewSerializeBuffer()
		if answer.SerializeTo(b, gopacket.SerializeOptions{FixLengths: true}) == nil {
			// The client has no address yet.
			s.conn.WriteTo(b.Bytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		}
	}
}

// answer returns nil if there is nothing to say.
func (s *dhcpServer) answer(asked *layers.DHCPv4) *layers.DHCPv4 {
	kind := layers.DHCPMsgTypeUnspecified
	for _, o := range asked.Options {
		if o.Type == layers.DHCPOptMessageType && len(o.Data) == 1 {
			kind = layers.DHCPMsgType(o.Data[0])
		}
	}
	reply := layers.DHCPMsgTypeUnspecified
	switch {
	case kind == layers.DHCPMsgTypeDiscover && s.giving:
		reply = layers.DHCPMsgTypeOffer
	case kind == layers.DHCPMsgTypeRequest && s.giving:
		reply = layers.DHCPMsgTypeAck
	case kind == layers.DHCPMsgTypeRequest:
		reply = layers.DHCPMsgTypeNak
	default:
		return nil
	}
	a := &layers.DHCPv4{
		Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
		Xid: asked.Xid, Flags: asked.Flags, RelayAgentIP: asked.RelayAgentIP, ClientHWAddr: asked.ClientHWAddr,
		YourClientIP: net.IPv4zero.To4(), ClientIP: net.IPv4zero.To4(), NextServerIP: net.IPv4zero.To4(),
		Options: layers.DHCPOptions{
			layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(reply)}),
			layers.NewDHCPOption(layers.DHCPOptServerID, router4),
		},
	}
	if reply != layers.DHCPMsgTypeNak {
		seconds := uint32(leaseTime.Seconds())
		a.YourClientIP = machine4
		a.Options = append(a.Options,
			layers.NewDHCPOption(layers.DHCPOptLeaseTime, []byte{byte(seconds >> 24), byte(seconds >> 16), byte(seconds >> 8), byte(seconds)}),
			layers.NewDHCPOption(layers.DHCPOptSubnetMask, mask4),
			layers.NewDHCPOption(layers.DHCPOptRouter, router4))
	}
	a.Options = append(a.Options, layers.NewDHCPOption(layers.DHCPOptEnd, nil))
	return a
}
