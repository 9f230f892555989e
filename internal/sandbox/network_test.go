//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

var _ = helper("network-privileges", func([]string) error {
	packet, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err == nil {
		unix.Close(packet)
	}
	l, lerr := net.Listen("tcp", "127.0.0.1:81")
	if lerr == nil {
		l.Close()
	}
	fmt.Printf("packet socket %v, port 81 %v", err, errors.Is(lerr, unix.EACCES))
	return nil
})

// Issue 12, A3: in the host's network a step neither reads all of its traffic nor takes its low ports; in its own it may, as with
// Docker.
func TestNetworkCapabilities(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		if out := mustRun(t, c, step(t, "network-privileges")); out != "packet socket <nil>, port 81 false" {
			t.Errorf("in its own network: %s", out)
		}
		s := step(t, "network-privileges")
		HostNetwork(s)
		if out := mustRun(t, c, s); out != "packet socket operation not permitted, port 81 true" {
			t.Errorf("in the host's network: %s", out)
		}
	})
}
