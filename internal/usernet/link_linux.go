package usernet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A step's network namespace has one cable: a pair of virtual Ethernet devices, both in the namespace. One end is
// the step's eth0; the other one has no address, and the step's packets are read from it, and answers written to it, by way of a
// packet socket that this process holds. Neither /dev/net/tun is needed, which ordinary users and containers often may
// not open, nor any privilege outside of the namespace.
const (
	stepIndex, farIndex = 2, 3 // 1 is the loopback
	stepName, farName   = "eth0", "uplink"
	linkMTU             = 65520
)

var (
	stepMAC    = [6]byte{0x02, 0x5f, 0, 0, 0, 0x02}
	farMAC     = [6]byte{0x02, 0x5f, 0, 0, 0, 0x03} // of the device, whose kernel is to take no packet for its own
	gatewayMAC = [6]byte{0x02, 0x5f, 0, 0, 0, 0x01} // of the stack
)

// Inside runs fn on a thread of its own in the network namespace of the process that pidfd is of.
// What fn opens stays in there; the thread ends with it.
func Inside(pidfd int, fn func() error) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: a thread in another namespace must not run anything else
		if err := unix.Setns(pidfd, unix.CLONE_NEWNET); err != nil {
			ended <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		ended <- fn()
	}()
	return <-ended
}

// connect lays the cable of the namespace that the calling thread is in, and returns the packet socket of its far end.
func connect(ip6 bool) (*os.File, error) {
	if err := configure(linkRequests(ip6)); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "uplink")
	if err := prepareSocket(fd); err != nil {
		f.Close()
		return nil, fmt.Errorf("prepare the packet socket: %w", err)
	}
	return f, nil
}

// socketBuffer is asked for on either side, bytes; an ordinary user gets what net.core.rmem_max allows. It holds packets of
// 64 KiB, and what does not fit is lost and sent again.
const socketBuffer = 4 << 20

func prepareSocket(fd int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	}
	// Frames to the gateway alone: the kernel's own announcements (IPv6) must wake nobody.
	hi, lo := binary.BigEndian.Uint16(gatewayMAC[:2]), binary.BigEndian.Uint32(gatewayMAC[2:])
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(hi), Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 2},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: lo, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 18},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil { // see uplink
		return err
	}
	// The kernel gives the far end its queue some time after both ends are up, and until then loses what is sent there: the answer to a
	// step's first packet, which it repeats after a second. No queue is needed.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: farIndex})
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

// linkRequests are the netlink messages (rtnetlink(7)) that make and configure the cable and bring the loopback up.
func linkRequests(ip6 bool) []byte {
	const vethInfoPeer, genModeNone = 1, 1
	// No address that the kernel makes up for itself, so that it announces none. Where there is no IPv6 there is nothing to say.
	quiet := attr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, attr(unix.AF_INET6|unix.NLA_F_NESTED, attr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{genModeNone})))
	end := func(index int32, name string, mac [6]byte) []byte {
		b := linkHeader(index, false) // one end of a pair that is not whole does not come up
		b = append(b, attr(unix.IFLA_IFNAME, append([]byte(name), 0))...)
		b = append(b, attr(unix.IFLA_MTU, u32(linkMTU))...)
		return append(b, attr(unix.IFLA_ADDRESS, mac[:])...)
	}
	veth := append(attr(unix.IFLA_INFO_KIND, []byte("veth\x00")),
		attr(unix.IFLA_INFO_DATA|unix.NLA_F_NESTED, attr(vethInfoPeer|unix.NLA_F_NESTED, end(farIndex, farName, farMAC)))...)
	msgs := message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(end(stepIndex, stepName, stepMAC), attr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, veth)...))
	for _, index := range []int32{farIndex, stepIndex} {
		msgs = append(msgs, mayFail(message(unix.RTM_NEWLINK, 0, append(linkHeader(index, false), quiet...)))...)
	}
	for _, index := range []int32{1, farIndex, stepIndex} {
		msgs = append(msgs, message(unix.RTM_NEWLINK, 0, linkHeader(index, true))...)
	}
	msgs = append(msgs, addressRequests(StepIP4, GatewayIP4)...)
	if ip6 {
		msgs = append(msgs, addressRequests(StepIP6, GatewayIP6)...)
	}
	return msgs
}

// linkHeader is the ifinfomsg of a device, by which it comes up or stays as it is.
func linkHeader(index int32, up bool) []byte {
	h := unix.IfInfomsg{Index: index}
	if up {
		h.Flags, h.Change = unix.IFF_UP, unix.IFF_UP
	}
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&h)), unix.SizeofIfInfomsg)...)
}

// addressRequests give the step's end its address, to which no other is a neighbour, the gateway's hardware address, and the way to everywhere by it.
func addressRequests(step, gateway netip.Addr) []byte {
	family := uint8(unix.AF_INET)
	if step.Is6() {
		family = unix.AF_INET6
	}
	address := unix.IfAddrmsg{Family: family, Prefixlen: uint8(step.BitLen()), Index: stepIndex, Flags: unix.IFA_F_NODAD}
	body := append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&address)), unix.SizeofIfAddrmsg)...)
	body = append(append(body, attr(unix.IFA_LOCAL, step.AsSlice())...), attr(unix.IFA_ADDRESS, step.AsSlice())...)
	msgs := message(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)

	neighbour := unix.NdMsg{Family: family, Ifindex: stepIndex, State: unix.NUD_PERMANENT}
	body = append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&neighbour)), unix.SizeofNdMsg)...)
	body = append(append(body, attr(unix.NDA_DST, gateway.AsSlice())...), attr(unix.NDA_LLADDR, gatewayMAC[:])...)
	msgs = append(msgs, message(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body)...)

	route := unix.RtMsg{Family: family, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNICAST, Flags: unix.RTNH_F_ONLINK}
	body = append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&route)), unix.SizeofRtMsg)...)
	body = append(append(body, attr(unix.RTA_GATEWAY, gateway.AsSlice())...), attr(unix.RTA_OIF, u32(stepIndex))...)
	return append(msgs, message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)...)
}

func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// attr is a netlink attribute, padded to four bytes.
func attr(kind uint16, data []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), data...)
	return append(b, make([]byte, -len(b)&3)...)
}

func message(kind, flags uint16, body []byte) []byte {
	b := u32(uint32(unix.SizeofNlMsghdr + len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	return append(append(b, make([]byte, 8)...), body...)
}

// mayFail marks a message by its sequence number.
func mayFail(msg []byte) []byte {
	binary.NativeEndian.PutUint32(msg[8:], 1)
	return msg
}

// configure sends messages, each of which is answered, to the kernel of this thread's network namespace.
func configure(msgs []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, msgs, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask netlink: %w", err)
	}
	var buf [8192]byte
	for rest := msgs; len(rest) > 0; {
		n, _, err := unix.Recvfrom(fd, buf[:], 0)
		if err != nil {
			return fmt.Errorf("hear netlink: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr+4 && len(rest) > 0; {
			size := int(binary.NativeEndian.Uint32(b))
			if errno := -int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); errno != 0 && binary.NativeEndian.Uint32(rest[8:]) == 0 {
				return fmt.Errorf("make the step's network device (%s): %w", requestName(rest), unix.Errno(errno))
			}
			b = b[min((size+3)&^3, len(b)):]
			rest = rest[binary.NativeEndian.Uint32(rest):]
		}
	}
	return nil
}

func requestName(msg []byte) string {
	switch binary.NativeEndian.Uint16(msg[4:]) {
	case unix.RTM_NEWLINK:
		return "veth"
	case unix.RTM_NEWADDR:
		return "address"
	case unix.RTM_NEWNEIGH:
		return "neighbour"
	}
	return "route"
}
