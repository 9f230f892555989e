package usernet

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// publish listens on ports of this machine. Who connects comes to the program from within its own namespace, at the address that is
// not the loopback's: as with docker, what listens on that alone is not reached.
func (n *Network) publish(pidfd int, ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("keep the step's descriptor: %w", err)
	}
	process := os.NewFile(uintptr(fd), "process")
	n.doors = append(n.doors, process)
	for _, p := range ports {
		l, err := net.Listen("tcp", p.Listen)
		if err != nil {
			return fmt.Errorf("publish port %d at %s: %w", p.Inside, p.Listen, err)
		}
		n.doors = append(n.doors, l)
		d := Door{Target: fmt.Sprintf("%s:%d", StepIP4, p.Inside)}
		n.work.Go(func() {
			n.pass(l, d, func(ctx context.Context, _ net.Conn) (c net.Conn, err error) {
				raw, err := process.SyscallConn()
				if err != nil {
					return nil, err
				}
				cerr := raw.Control(func(fd uintptr) {
					err = Inside(int(fd), func() (err error) {
						c, err = dialHere(d.Target)
						return err
					})
				})
				if cerr != nil {
					return nil, cerr
				}
				return c, err
			})
		})
	}
	return nil
}

// dialHere connects in the namespace of the calling thread: net.Dial may use another one.
func dialHere(target string) (net.Conn, error) {
	a, err := net.ResolveTCPAddr("tcp", target) // numbers
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "published")
	defer f.Close()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	return net.FileConn(f)
}
