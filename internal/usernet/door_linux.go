package usernet

import (
	"fmt"
	"net"
)

// openDoors listens in the network namespace of the calling thread.
func (n *Network) openDoors(doors []Door) error {
	for _, d := range doors {
		if d.Listen == "" {
			continue
		}
		l, err := net.Listen("tcp", d.Listen)
		if err != nil {
			return fmt.Errorf("open the door to %s: %w", d.Target, err)
		}
		n.doors = append(n.doors, l)
		n.work.Go(func() { n.serveDoor(l, d) })
	}
	return nil
}

func (n *Network) serveDoor(l net.Listener, d Door) {
	for {
		inside, err := l.Accept()
		if err != nil {
			return
		}
		n.work.Go(func() {
			defer inside.Close()
			outside, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(n.ctx, "tcp", d.Target)
			if err != nil {
				n.notes.add(fmt.Sprintf("connect to %s: %v", d.Target, cause(err)))
				return
			}
			if !n.hold(outside, maxConnections) {
				outside.Close()
				return
			}
			defer n.release(outside)
			if n.hold(inside, 2*maxConnections) {
				defer n.release(inside)
				splice(inside, outside)
			}
		})
	}
}
