package usernet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Bounds on what a step can make this process hold.
const (
	maxConnections = 4096             // of TCP, that are open
	maxDialling    = 512              // of TCP, that come about
	maxFlows       = 1024             // of UDP, pairs of addresses
	udpIdle        = 90 * time.Second // after which a flow of UDP is over; RFC 4787 wants 2 minutes of a NAT, for peers that call back
	nic            = 1                // the one device of the stack
	copyBuffer     = 64 << 10
)

// Network is the network of one step. Its methods are safe for concurrent use.
type Network struct {
	policy   policy
	resolver *resolver
	notes    notes
	uplink   *os.File
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
	doors    []io.Closer

	first starts

	mu    sync.Mutex
	conns map[io.Closer]struct{}
}

// Attach makes the network of the process that pidfd is of, which has a network namespace of its own with nothing in it yet. The
// caller closes it when the process is gone. After an error nothing is left of it but what the namespace holds.
func Attach(pidfd int, o Options) (*Network, error) {
	n := &Network{conns: map[io.Closer]struct{}{}}
	n.policy = policy{doors: o.Doors, host: o.Host}
	n.resolver = newResolver(o.Resolvers, &n.notes)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	ip6 := hasIP6()
	err := Inside(pidfd, func() (err error) {
		if n.uplink, err = connect(ip6); err != nil {
			return err
		}
		return n.openDoors(o.Doors)
	})
	if err == nil {
		err = n.publish(pidfd, o.Ports)
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	n.work.Go(n.serve)
	return n, nil
}

// hasIP6 says whether this machine has a way to the Internet of IPv6: a step is not to try one that leads nowhere.
func hasIP6() bool {
	c, err := net.Dial("udp", "[2000::1]:9") // sends nothing
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// Notes say what the step did not reach and why.
func (n *Network) Notes() []string { return n.notes.list() }

// Close ends all connections and waits until nothing runs any more. It returns nil.
func (n *Network) Close() error {
	n.cancel()
	if n.uplink != nil {
		_ = n.uplink.SetDeadline(time.Unix(1, 0)) // nobody is left to hear an answer
	}
	for _, d := range n.doors {
		d.Close()
	}
	n.mu.Lock()
	for c := range n.conns {
		c.Close()
	}
	n.mu.Unlock()
	n.work.Wait()
	if n.uplink != nil {
		// The kernel lets a packet socket go when no processor can be looking at it any more, for which it waits 5 to 30 ms. Nobody
		// else has to.
		go n.uplink.Close()
	}
	return nil
}

// serve waits for the first packet and makes the stack for it.
func (n *Network) serve() {
	raw, err := n.uplink.SyscallConn()
	if err != nil {
		return
	}
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK)
		return !errors.Is(err, unix.EAGAIN)
	})
	if err != nil || n.ctx.Err() != nil {
		return // closed before anything was sent
	}
	link := &uplink{file: n.uplink}
	s, err := n.newStack(link)
	if err != nil {
		n.notes.add(fmt.Sprintf("the step's network did not start: %v", err))
		return
	}
	<-n.ctx.Done()
	// The link first: Stack.Wait waits for it with the stack's lock held, which a packet that is being delivered may need.
	link.Wait()
	s.Close()
	s.Wait()
}

func (n *Network) newStack(link *uplink) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := n.configure(s, link); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (n *Network) configure(s *stack.Stack, link *uplink) error {
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 64 << 10, Default: 1 << 20, Max: 8 << 20}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 64 << 10, Default: 1 << 20, Max: 8 << 20}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &receive, &send} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return errors.New(err.String())
		}
	}
	// Before the link is attached: it brings the first packet.
	tcpForwarder := tcp.NewForwarder(s, 0, maxDialling, func(r *tcp.ForwarderRequest) { n.forwardTCP(s, r) })
	udpForwarder := udp.NewForwarder(s, n.forwardUDP)
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		if err := n.checkStart(id); err != nil {
			reject(s, pkt, err)
			return true
		}
		if header.TCP(pkt.TransportHeader().Slice()).Flags() == header.TCPFlagSyn {
			n.first.put(id, pkt)
		}
		return tcpForwarder.HandlePacket(id, pkt)
	})
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udpForwarder.HandlePacket)
	for _, err := range []tcpip.Error{
		s.CreateNIC(nic, link),
		s.SetPromiscuousMode(nic, true), // takes packets for every address
		s.SetSpoofing(nic, true),        // and answers from it
	} {
		if err != nil {
			return errors.New(err.String())
		}
	}
	for _, a := range []struct {
		addr, peer netip.Addr
		prefix     int
		proto      tcpip.NetworkProtocolNumber
	}{{GatewayIP4, StepIP4, prefix4, ipv4.ProtocolNumber}, {GatewayIP6, StepIP6, prefix6, ipv6.ProtocolNumber}} {
		addr := tcpip.ProtocolAddress{Protocol: a.proto, AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(a.addr), PrefixLen: a.prefix}}
		if err := s.AddProtocolAddress(nic, addr, stack.AddressProperties{}); err != nil {
			return errors.New(err.String())
		}
		if err := s.AddStaticNeighbor(nic, a.proto, address(a.peer), tcpip.LinkAddress(stepMAC[:])); err != nil {
			return errors.New(err.String())
		}
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	return nil
}

// target is the address that a packet was sent to.
func target(id stack.TransportEndpointID) netip.AddrPort {
	a, _ := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	return netip.AddrPortFrom(a.Unmap(), id.LocalPort)
}

// isDNS says whether the machine's resolvers are asked.
func isDNS(to netip.AddrPort) bool {
	return to.Port() == 53 && (to.Addr() == GatewayIP4 || to.Addr() == GatewayIP6)
}

// checkStart refuses the first packet of a connection, with what a program calls "no route to host".
func (n *Network) checkStart(id stack.TransportEndpointID) error {
	to := target(id)
	if isDNS(to) {
		return nil
	}
	err := n.policy.check(to)
	if err != nil {
		n.deny(to, err)
	}
	return err
}

func (n *Network) deny(to netip.AddrPort, err error) {
	n.notes.add(fmt.Sprintf("%s: %v; a step that needs it runs with --network=host, which the build gives by --allow network.host", to, err))
}

// reject answers a packet with ICMP, so that its program is told at once, and what this process was told.
func reject(s *stack.Stack, pkt *stack.PacketBuffer, err error) {
	as4, as6 := stack.RejectIPv4WithICMPHostUnreachable, stack.RejectIPv6WithICMPAddrUnreachable
	if errors.Is(err, syscall.ENETUNREACH) {
		as4, as6 = stack.RejectIPv4WithICMPNetUnreachable, stack.RejectIPv6WithICMPNoRoute
	}
	switch p := s.NetworkProtocolInstance(pkt.NetworkProtocolNumber).(type) {
	case stack.RejectIPv4WithHandler:
		_ = p.SendRejectionError(pkt, as4, true)
	case stack.RejectIPv6WithHandler:
		_ = p.SendRejectionError(pkt, as6, true)
	}
}

// starts are the first packets of connections that come about, which an error is an answer to. The zero value is ready.
// Safe for concurrent use.
type starts struct {
	mu   sync.Mutex
	pkts map[stack.TransportEndpointID]*stack.PacketBuffer
}

func (f *starts) put(id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pkts == nil {
		f.pkts = map[stack.TransportEndpointID]*stack.PacketBuffer{}
	}
	if _, again := f.pkts[id]; !again && len(f.pkts) < maxDialling {
		f.pkts[id] = pkt.Clone()
	}
}

// take returns the packet, which is the caller's then; nil for none.
func (f *starts) take(id stack.TransportEndpointID) *stack.PacketBuffer {
	f.mu.Lock()
	defer f.mu.Unlock()
	pkt := f.pkts[id]
	delete(f.pkts, id)
	return pkt
}

// forwardTCP joins a connection of the step with one of this process.
func (n *Network) forwardTCP(s *stack.Stack, r *tcp.ForwarderRequest) {
	id := r.ID()
	to := target(id)
	var outside net.Conn
	var err error
	if isDNS(to) {
		outside, err = n.resolver.dialTCP(n.ctx)
	} else {
		outside, err = n.policy.dial(n.ctx, "tcp", to)
	}
	first := n.first.take(id)
	if first != nil {
		defer first.DecRef()
	}
	if err != nil {
		if n.ctx.Err() == nil && !errors.Is(err, syscall.ECONNREFUSED) { // which the program is told as it is
			n.notes.add(fmt.Sprintf("connect to %s: %v", to, cause(err)))
			if first != nil {
				reject(s, first, err)
				r.Complete(false)
				return
			}
		}
		r.Complete(true)
		return
	}
	if !n.hold(outside, maxConnections) {
		outside.Close()
		n.notes.add(fmt.Sprintf("more than %d connections at once", maxConnections))
		r.Complete(true)
		return
	}
	defer n.release(outside)
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	r.Complete(terr != nil)
	if terr != nil {
		return // the program has given up meanwhile
	}
	inside := gonet.NewTCPConn(&wq, ep)
	if !n.hold(inside, 2*maxConnections) {
		inside.Close()
		return
	}
	defer n.release(inside)
	splice(inside, outside)
}

// cause is the error of a dial without the addresses, which the line has already.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// halfConn is a connection whose directions end one by one.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

// splice copies both ways until both have ended, or one has failed.
func splice(a, b net.Conn) {
	var wg sync.WaitGroup
	one := func(to, from net.Conn) {
		_, err := copyAll(to, from)
		if h, ok := to.(halfConn); ok && err == nil {
			_ = h.CloseWrite()
			return
		}
		a.Close()
		b.Close()
	}
	wg.Go(func() { one(a, b) })
	one(b, a)
	wg.Wait()
}

// copyAll leaves what goes from one socket of the kernel to another, as by a door, to the kernel.
func copyAll(to, from net.Conn) (int64, error) {
	if t, ok := to.(*net.TCPConn); ok {
		if _, ok := from.(*net.TCPConn); ok {
			return t.ReadFrom(from)
		}
	}
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, copyBuffer))
}

// forwardUDP starts a flow for the first packet of one; false has the stack answer that the port is unreachable.
func (n *Network) forwardUDP(r *udp.ForwarderRequest) bool {
	to := target(r.ID())
	var outside net.Conn
	if !isDNS(to) {
		var err error
		if outside, err = n.policy.dial(n.ctx, "udp", to); err != nil {
			if errors.Is(err, errDenied) {
				n.deny(to, err)
			}
			return false
		}
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	if terr != nil {
		if outside != nil {
			outside.Close()
		}
		return false
	}
	inside := gonet.NewUDPConn(&wq, ep)
	if !n.hold(inside, maxConnections+maxFlows) {
		inside.Close()
		if outside != nil {
			outside.Close()
		}
		return false
	}
	n.work.Go(func() {
		defer n.release(inside)
		if outside == nil {
			n.resolver.serveDNS(n.ctx, inside)
			return
		}
		relay(inside, outside)
	})
	return true
}

// relay copies datagrams both ways until there has been none for a while.
func relay(inside, outside net.Conn) {
	var wg sync.WaitGroup
	var last atomic.Int64 // Unix nanoseconds
	last.Store(time.Now().UnixNano())
	one := func(to, from net.Conn) {
		defer inside.Close()
		defer outside.Close()
		buf := make([]byte, 1<<16)
		for {
			_ = from.SetReadDeadline(time.Unix(0, last.Load()).Add(udpIdle))
			n, err := from.Read(buf)
			switch {
			case err == nil:
				last.Store(time.Now().UnixNano())
				_, _ = to.Write(buf[:n])
			case errors.Is(err, syscall.ECONNREFUSED): // of an earlier packet
			case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(time.Unix(0, last.Load())) < udpIdle:
			default:
				return
			}
		}
	}
	wg.Go(func() { one(inside, outside) })
	one(outside, inside)
	wg.Wait()
}

// hold has c closed with the network; false when there are too many.
func (n *Network) hold(c io.Closer, limit int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil || len(n.conns) >= limit {
		return false
	}
	n.conns[c] = struct{}{}
	return true
}

func (n *Network) release(c io.Closer) {
	c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}
