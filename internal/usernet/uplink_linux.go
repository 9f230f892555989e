package usernet

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// uplink is the stack's only device: Ethernet frames on the packet socket, each behind a header (virtio_net.h) that says
// what the kernel has left undone, or is to do: sums are neither made nor checked for packets that never leave this machine.
// gVisor's own endpoint for descriptors keeps a thread, and leaves descriptors behind when it ends; this one waits as Go's
// sockets do.
type uplink struct {
	file *os.File

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
	reading    sync.WaitGroup
}

const (
	vnetHeader = 10
	frameMax   = vnetHeader + header.EthernetMinimumSize + 65535
	firstBlock = 2048 // of the buffer that a packet is read to: most are small, or large
)

// Attach implements [stack.LinkEndpoint].
func (u *uplink) Attach(d stack.NetworkDispatcher) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if d != nil && u.dispatcher == nil {
		u.reading.Go(u.read)
	}
	u.dispatcher = d
}

// read hands frames to the stack until the file has a deadline that is past, or is closed.
func (u *uplink) read() {
	raw, err := u.file.SyscallConn()
	if err != nil {
		return
	}
	var head [vnetHeader]byte
	var first, rest *buffer.View
	for {
		if first == nil {
			first = buffer.NewViewSize(firstBlock)
		}
		if rest == nil {
			rest = buffer.NewViewSize(frameMax - firstBlock - vnetHeader)
		}
		n, errno := 0, error(nil)
		err := raw.Read(func(fd uintptr) bool {
			n, errno = unix.Readv(int(fd), [][]byte{head[:], first.AsSlice(), rest.AsSlice()})
			return errno != unix.EAGAIN
		})
		if err != nil {
			break
		}
		if errno == unix.EINTR || errno == nil && n < vnetHeader+header.EthernetMinimumSize {
			continue
		}
		if errno != nil { // ENETDOWN: the namespace is gone
			break
		}
		n -= vnetHeader
		first.CapLength(min(n, firstBlock))
		payload := buffer.MakeWithView(first)
		first = nil
		if n > firstBlock {
			rest.CapLength(n - firstBlock)
			_ = payload.Append(rest)
			rest = nil
		}
		u.deliver(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: payload}))
	}
	if first != nil {
		first.Release()
	}
	if rest != nil {
		rest.Release()
	}
}

func (u *uplink) deliver(pkt *stack.PacketBuffer) {
	defer pkt.DecRef()
	if !u.ParseHeader(pkt) || unanswered(pkt) {
		return
	}
	u.mu.RLock()
	d := u.dispatcher
	u.mu.RUnlock()
	if d != nil {
		d.DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
	}
}

// unanswered are pings of others than the gateway: the stack, which takes every address for its own, would say that all of the
// world is there.
func unanswered(pkt *stack.PacketBuffer) bool {
	switch pkt.NetworkProtocolNumber {
	case ipv4.ProtocolNumber:
		b, ok := pkt.Data().PullUp(header.IPv4MinimumSize)
		return ok && header.IPv4(b).Protocol() == uint8(header.ICMPv4ProtocolNumber) && header.IPv4(b).DestinationAddress() != address(GatewayIP4)
	case ipv6.ProtocolNumber:
		b, ok := pkt.Data().PullUp(header.IPv6MinimumSize)
		return ok && header.IPv6(b).NextHeader() == uint8(header.ICMPv6ProtocolNumber) && header.IPv6(b).DestinationAddress() != address(GatewayIP6)
	}
	return false
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// WritePackets implements [stack.LinkWriter].
func (u *uplink) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	raw, err := u.file.SyscallConn()
	if err != nil {
		return 0, &tcpip.ErrClosedForSend{}
	}
	for i, pkt := range pkts.AsSlice() {
		head := vnetHeaderOf(pkt)
		parts := append([][]byte{head[:]}, pkt.AsSlices()...)
		var errno error
		if err := raw.Write(func(fd uintptr) bool {
			_, errno = unix.Writev(int(fd), parts)
			return errno != unix.EAGAIN
		}); err != nil {
			return i, &tcpip.ErrClosedForSend{}
		}
		if errno != nil && errno != unix.ENOBUFS { // which is a packet that is lost
			return i, &tcpip.ErrClosedForSend{}
		}
	}
	return pkts.Len(), nil
}

func vnetHeaderOf(pkt *stack.PacketBuffer) (h [vnetHeader]byte) {
	const needsSum, tcp4, tcp6 = 1, 1, 4
	o := pkt.GSOOptions
	if o.Type == stack.GSONone {
		return h
	}
	binary.LittleEndian.PutUint16(h[2:], uint16(pkt.HeaderSize()))
	if o.NeedsCsum {
		h[0] = needsSum
		binary.LittleEndian.PutUint16(h[6:], header.EthernetMinimumSize+o.L3HdrLen)
		binary.LittleEndian.PutUint16(h[8:], o.CsumOffset)
	}
	if pkt.Data().Size() > int(o.MSS) {
		if h[1] = tcp4; o.Type == stack.GSOTCPv6 {
			h[1] = tcp6
		}
		binary.LittleEndian.PutUint16(h[4:], o.MSS)
	}
	return h
}

// AddHeader implements [stack.LinkEndpoint].
func (u *uplink) AddHeader(pkt *stack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress, DstAddr: pkt.EgressRoute.RemoteLinkAddress, Type: pkt.NetworkProtocolNumber,
	})
}

// ParseHeader implements [stack.LinkEndpoint].
func (u *uplink) ParseHeader(pkt *stack.PacketBuffer) bool {
	b, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	if ok {
		pkt.NetworkProtocolNumber = header.Ethernet(b).Type()
	}
	return ok
}

// The rest of [stack.LinkEndpoint] and [stack.GSOEndpoint].

func (u *uplink) MTU() uint32                             { return linkMTU }
func (u *uplink) SetMTU(uint32)                           {}
func (u *uplink) MaxHeaderLength() uint16                 { return header.EthernetMinimumSize }
func (u *uplink) LinkAddress() tcpip.LinkAddress          { return tcpip.LinkAddress(gatewayMAC[:]) }
func (u *uplink) SetLinkAddress(tcpip.LinkAddress)        {}
func (u *uplink) IsAttached() bool                        { u.mu.RLock(); defer u.mu.RUnlock(); return u.dispatcher != nil }
func (u *uplink) Wait()                                   { u.reading.Wait() }
func (u *uplink) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (u *uplink) Close()                                  {}
func (u *uplink) SetOnCloseAction(func())                 {}
func (u *uplink) GSOMaxSize() uint32                      { return linkMTU }
func (u *uplink) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }
func (u *uplink) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload | stack.CapabilityResolutionRequired
}
