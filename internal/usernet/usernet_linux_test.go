package usernet

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// serveNames is a DNS server that knows one name and keeps silent about another.
func serveNames(network string) error {
	answer := func(q []byte) []byte {
		var m dnsmessage.Message
		if m.Unpack(q) != nil || len(m.Questions) != 1 || strings.HasPrefix(m.Questions[0].Name.String(), "silent.") {
			return nil
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		ip := worldIP.As4()
		if strings.HasPrefix(m.Questions[0].Name.String(), "metadata.") {
			ip = [4]byte{169, 254, 169, 254}
		}
		if m.Questions[0].Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1}, Body: &dnsmessage.AResource{A: ip}}}
		}
		b, _ := m.Pack()
		return b
	}
	if network == "tcp" {
		l, err := net.Listen("tcp", ":53")
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				b := make([]byte, 1<<12)
				if n, err := c.Read(b); err == nil && n > 2 {
					a := answer(b[2:n])
					_, _ = c.Write(append([]byte{byte(len(a) >> 8), byte(len(a))}, a...))
				}
				c.Close()
			}
		}()
		return nil
	}
	u, err := net.ListenPacket("udp", ":53")
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 1<<12)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			if a := answer(b[:n]); a != nil {
				_, _ = u.WriteTo(a, from)
			}
		}
	}()
	return nil
}

func TestReachesTheWorld(t *testing.T) {
	s, n := step(t, Options{Resolvers: []string{worldIP.String()}})
	for _, c := range []struct{ network, addr string }{
		{"tcp", "203.0.113.5:7777"}, {"udp", "203.0.113.5:7777"}, {"tcp", "198.51.100.7:7777"}, {"tcp", "[fd01::5]:7777"}, {"udp", "[fd01::5]:7777"},
	} {
		if got := s.ask("dial", c.network, c.addr, "hello"); got != "echo hello" {
			t.Errorf("%s %s: %s", c.network, c.addr, got)
		}
	}
	if got := s.ask("dial", "tcp", "203.0.113.5:7", "hello"); !strings.Contains(got, "connection refused") {
		t.Errorf("a port where nobody listens: %s", got)
	}
	if n.Notes() != nil {
		t.Errorf("notes of what works: %q", n.Notes())
	}
}

// Issue 12, A3: nothing of the machine's own, whichever way it is spelled, and no metadata service, although the world here has
// those addresses, and this machine listens on all of its own.
func TestDoesNotReachTheMachine(t *testing.T) {
	l, err := net.Listen("tcp", ":7778")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echo(l)
	u, err := net.ListenPacket("udp", ":7778")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	heard := make(chan string, 16)
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			heard <- fmt.Sprint(from, string(b[:n]))
			_, _ = u.WriteTo([]byte("echo hello"), from)
		}
	}()
	a, err := net.Listen("unix", "@usernet-test")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s, n := step(t, Options{})
	if got := s.ask("abstract", "usernet-test"); !strings.Contains(got, "refused") {
		t.Errorf("an abstract socket of the machine: %s", got)
	}
	for _, host := range []string{
		"127.0.0.1", "127.1.2.3", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "203.0.113.1", "[::ffff:203.0.113.1]", "[fd01::1]", "192.0.0.1",
		"192.0.0.3", "[fd6b:5f2d:9c41::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::1]", "[::127.0.0.1]", "[64:ff9b::cb00:7101]",
	} {
		if got := s.ask("dial", "tcp", host+":7778", "hello"); !strings.HasPrefix(got, "error: dial") {
			t.Errorf("tcp %s: %s", host, got)
		}
		if got := s.ask("dial", "udp", host+":7778", "hello"); !strings.HasPrefix(got, "error:") || strings.Contains(got, "timeout") {
			t.Errorf("udp %s: %s", host, got)
		}
	}
	for _, host := range []string{"169.254.169.254", "[::ffff:169.254.169.254]", "100.100.100.200", "[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]", "[fe80::1%eth0]"} {
		if got := s.ask("dial", "tcp", host+":7777", "hello"); !strings.HasPrefix(got, "error: dial") {
			t.Errorf("tcp %s: %s", host, got)
		}
	}
	select {
	case h := <-heard:
		t.Errorf("a datagram came to this machine: %s", h)
	case <-time.After(50 * time.Millisecond):
	}
	if notes := strings.Join(n.Notes(), "\n"); !strings.Contains(notes, "203.0.113.1:7778: a step does not reach this: it is an address of this machine") ||
		!strings.Contains(notes, "--network=host") {
		t.Errorf("notes: %q", notes)
	}
}

func TestNames(t *testing.T) {
	s, n := step(t, Options{Resolvers: []string{"203.0.113.77", worldIP.String()}}) // the first one is not there
	for _, network := range []string{"udp", "tcp"} {
		if got := s.ask("lookup", network, "db.example."); got != worldIP.String() {
			t.Errorf("%s: %s", network, got)
		}
	}
	// A name leads no further than its address.
	if got := s.ask("lookup", "udp", "metadata.example."); got != "169.254.169.254" {
		t.Errorf("got %s", got)
	}
	if n.Notes() != nil {
		t.Errorf("notes of what works: %q", n.Notes())
	}
}

// Resolvers that are not there, or keep silent, are told of, and in time.
func TestNoNames(t *testing.T) {
	for _, resolver := range []string{worldIP.String(), "127.0.0.1:9", "203.0.113.77"} {
		s, n := step(t, Options{Resolvers: []string{resolver}})
		start := time.Now()
		if got := s.ask("lookup", "udp", "silent.example."); !strings.HasPrefix(got, "error:") {
			t.Errorf("%s: got %s", resolver, got)
		}
		if took := time.Since(start); took > time.Minute { // Go's resolver asks twice
			t.Errorf("%s: it took %v", resolver, took)
		}
		if notes := strings.Join(n.Notes(), "\n"); !strings.HasPrefix(notes, "cannot resolve silent.example: no resolver of this machine (/etc/resolv.conf) answers: ") {
			t.Errorf("%s: notes %q", resolver, notes)
		}
	}
}

// A machine that is offline: the program is told at once.
func TestNoWay(t *testing.T) {
	s, n := step(t, Options{})
	if got := s.ask("dial", "tcp", "203.0.113.99:80", "x"); !strings.Contains(got, "no route to host") {
		t.Errorf("nobody there: %s", got)
	}
	if notes := strings.Join(n.Notes(), "\n"); !strings.Contains(notes, "connect to 203.0.113.99:80: ") {
		t.Errorf("notes %q", notes)
	}
}

func TestDoors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echo(l)
	s, _ := step(t, Options{Doors: []Door{{Listen: l.Addr().String(), Target: l.Addr().String()}, {Target: "203.0.113.1:7799"}}})
	if got := s.ask("dial", "tcp", l.Addr().String(), "hello"); got != "echo hello" {
		t.Errorf("by a door: %s", got)
	}
	own, err := net.Listen("tcp", "203.0.113.1:7799")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	go echo(own)
	if got := s.ask("dial", "tcp", "203.0.113.1:7799", "hello"); got != "echo hello" {
		t.Errorf("an address of the machine that has a door: %s", got)
	}
	if got := s.ask("dial", "tcp", "203.0.113.1:7800", "hello"); !strings.HasPrefix(got, "error: dial") {
		t.Errorf("another port: %s", got)
	}
	// What the step listens on itself is its own.
	if got := s.ask("listen", "127.0.0.1:7801"); got != "listening" {
		t.Error(got)
	}
	if got := s.ask("dial", "tcp", "127.0.0.1:7801", "hello"); got != "echo hello" {
		t.Error(got)
	}
}

// A network ends with what it holds, and leaves nothing behind.
func TestClose(t *testing.T) {
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := 0
	for i := range 20 {
		h, err := startHelper()
		if err != nil {
			t.Fatal(err)
		}
		n, err := Attach(h.pidfd, Options{Doors: []Door{{Listen: "127.0.0.1:7802", Target: "127.0.0.1:7803"}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := h.ask("dial", "tcp", "203.0.113.5:7777", "x"); got != "echo x" {
			t.Fatal(got)
		}
		h.end()
		n.Close()
		if i == 9 {
			before = files()
		}
	}
	// The socket of a network is closed when its Close has long returned.
	for guard := time.Now().Add(time.Minute); files() > before+3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(guard) {
			t.Fatalf("%d descriptors were open, now %d", before, files())
		}
	}
}

// A packet that comes while a network is closed does not keep it from that.
func TestCloseWhileDelivering(t *testing.T) {
	h, err := startHelper()
	if err != nil {
		t.Fatal(err)
	}
	defer h.end()
	n, err := Attach(h.pidfd, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := h.ask("dial", "tcp", "203.0.113.5:7777", "x"); got != "echo x" {
		t.Fatal(got)
	}
	n.notes.mu.Lock() // which the packet of a connection that is refused comes to, on its way
	var asked sync.WaitGroup
	asked.Go(func() { h.ask("dial", "tcp", "169.254.169.254:80", "x") })
	defer asked.Wait()
	awaitGoroutine(t, "", "usernet.(*notes).add")
	closed := make(chan struct{})
	go func() {
		n.Close()
		close(closed)
	}()
	awaitGoroutine(t, "[sync.WaitGroup.Wait", "usernet.(*Network).serve")
	n.notes.mu.Unlock()
	select {
	case <-closed:
	case <-time.After(2 * time.Minute):
		t.Fatal("the network does not close")
	}
}

// awaitGoroutine returns when a goroutine has all of parts in its stack.
func awaitGoroutine(t *testing.T, parts ...string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for range 2 * 60 * 100 {
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(g, p) }) {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no goroutine with %q", parts)
}

// BenchmarkCopy compares what a step gets with what a process of the machine gets.
// TestFirstAnswer: what is sent to a step at once comes to it. The kernel gives a device its queue only after a while, and lost it.
func TestFirstAnswer(t *testing.T) {
	const ethertype = 0x88b5 // for experiments (IEEE 802)
	for range 20 {
		h, err := startHelper()
		if err != nil {
			t.Fatal(err)
		}
		err = Inside(h.pidfd, func() error {
			uplink, err := connect(false)
			if err != nil {
				return err
			}
			defer uplink.Close()
			in, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(in)
			if err := unix.Bind(in, &unix.SockaddrLinklayer{Protocol: htons(ethertype), Ifindex: stepIndex}); err != nil {
				return err
			}
			frame := append(make([]byte, vnetHeader), stepMAC[:]...)
			frame = binary.BigEndian.AppendUint16(append(frame, gatewayMAC[:]...), ethertype)
			if _, err := uplink.Write(append(frame, make([]byte, 46)...)); err != nil {
				return err
			}
			// What is lost does not come, however long one waits.
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}}, 60_000); err != nil || n != 1 {
				return fmt.Errorf("it was lost: %d, %v", n, err)
			}
			return nil
		})
		h.end()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkCopy(b *testing.B) {
	machine, err := startHelper()
	if err != nil {
		b.Fatal(err)
	}
	defer machine.end()
	s, _ := step(b, Options{})
	const mib = 1024
	for _, way := range []string{"down", "up"} {
		for who, ask := range map[string]func(...string) string{"machine": func(w ...string) string { return act(w) }, "step": s.ask} {
			b.Run(way+"/"+who, func(b *testing.B) {
				b.SetBytes(mib << 20)
				for b.Loop() {
					if got := ask("copy", "203.0.113.5:7777", way, fmt.Sprint(mib)); strings.HasPrefix(got, "error") {
						b.Fatal(got)
					}
				}
			})
		}
	}
}

// BenchmarkAttach is what a network costs a step that does not use it, and one that does.
func BenchmarkAttach(b *testing.B) {
	for _, c := range []string{"none", "unused", "used"} {
		b.Run(c, func(b *testing.B) {
			for b.Loop() {
				h, err := startHelper()
				if err != nil {
					b.Fatal(err)
				}
				end := func() error { return nil }
				if c != "none" {
					n, err := Attach(h.pidfd, Options{})
					if err != nil {
						b.Fatal(err)
					}
					end = n.Close
				}
				if c == "used" {
					if got := h.ask("dial", "tcp", "203.0.113.5:7777", "x"); got != "echo x" {
						b.Fatal(got)
					}
				} else {
					h.ask("interfaces")
				}
				h.end()
				_ = end() // the next step waits for it
			}
		})
	}
}
