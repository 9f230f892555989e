// Package usernet is the network of a step: a TCP/IP stack in this process (gVisor's) that ends what programs in a network
// namespace send, and opens connections of its own to where they wanted to go. So a step reaches other machines by the ways that
// this process has, without any privilege, and nothing else: not the machine's loopback interface, nor its abstract
// sockets, nor its own addresses, nor those of its link ([policy]).
//
//	program ── eth0 ══ uplink ── packet socket ── stack ── a socket of this process for each connection
//	   ├────── 192.0.0.1:53, the names that this machine's resolvers know
//	   └────── 127.0.83.1 and others, doors: a listener in the namespace that leads to one place alone
//
// A step that sends no packet costs the cable: the stack is made for the first one.
package usernet

import (
	"net/netip"
	"sync"
)

// The addresses of a step's network, which lie where no other network does: RFC 7335 keeps 192.0.0.0/29 for the two
// ends of such a link. The prefix of IPv6 is one of RFC 4193, of random bits.
var (
	GatewayIP4 = netip.MustParseAddr("192.0.0.1")
	StepIP4    = netip.MustParseAddr("192.0.0.2")
	GatewayIP6 = netip.MustParseAddr("fd6b:5f2d:9c41::1")
	StepIP6    = netip.MustParseAddr("fd6b:5f2d:9c41::2")
)

const prefix4, prefix6 = 29, 64 // of the two networks

// Options of a network. The zero value has no doors.
type Options struct {
	// Doors lead to places that the step would not reach otherwise.
	Doors []Door
	// Host has the gateway's address lead to this machine's loopback interface: for who may have the host's network anyway.
	Host bool
	// Ports of this machine lead into the network.
	Ports []Port
	// Resolvers are the addresses, HOST or HOST:PORT, that names are asked of. nil: those of /etc/resolv.conf.
	Resolvers []string
}

// notes are what did not work and why, for a person whose step failed. The zero value is ready. Safe for concurrent use.
type notes struct {
	mu    sync.Mutex
	lines []string
}

// maxNotes bounds the lines that a step can have written about it.
const maxNotes = 6

func (n *notes) add(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.lines {
		if l == line {
			return
		}
	}
	if len(n.lines) < maxNotes {
		n.lines = append(n.lines, line)
	}
}

func (n *notes) list() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.lines...)
}
