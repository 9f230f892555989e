package usernet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// dnsTimeout is how long one resolver may take; the next is asked then, and so on, twice all. glibc and Go's resolver wait 5 s
// themselves before they ask again.
const dnsTimeout = 2 * time.Second

// udpIdleDNS is how long a program's socket may keep silent before its flow of questions is over.
const udpIdleDNS = 10 * time.Second

// maxDNS is the largest message: the length field of DNS over TCP has 16 bits.
const maxDNS = 65535

// resolvConf is where the machine names its resolvers (resolv.conf(5)).
const resolvConf = "/etc/resolv.conf"

// readResolvers are the machine's resolvers as HOST:PORT. Without any it is the machine itself, as resolv.conf(5) has it.
func readResolvers() []string {
	var list []string
	text, _ := os.ReadFile(resolvConf)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			list = append(list, f[1])
		}
	}
	if len(list) == 0 {
		list = []string{"127.0.0.1"}
	}
	return list
}

// ResolvConf is what a step's /etc/resolv.conf says, given the machine's: names are asked of the gateway, search lists and
// options stay.
func ResolvConf(machine []byte) []byte {
	out := "nameserver " + GatewayIP4.String() + "\n"
	for line := range strings.Lines(string(machine)) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "search" || f[0] == "domain" || f[0] == "options") {
			out += strings.Join(f, " ") + "\n"
		}
	}
	return []byte(out)
}

// resolver passes questions on, as they are, to the resolvers of the machine, which may be on its loopback interface. Safe for
// concurrent use.
type resolver struct {
	servers []string
	notes   *notes

	mu   sync.Mutex
	good int // index of the server that answered last
}

func newResolver(servers []string, n *notes) *resolver {
	if servers == nil {
		servers = readResolvers()
	}
	r := &resolver{notes: n}
	for _, s := range servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			s = net.JoinHostPort(strings.Trim(s, "[]"), "53")
		}
		r.servers = append(r.servers, s)
	}
	return r
}

// answer returns the answer to a question; where no resolver gives one it is SERVFAIL (RFC 1035 4.1.1), at once, rather than
// a silence that each program waits for in its own way.
func (r *resolver) answer(ctx context.Context, question []byte) []byte {
	r.mu.Lock()
	first := r.good
	r.mu.Unlock()
	var errs []error
	for i := range 2 * len(r.servers) {
		n := (first + i) % len(r.servers)
		a, err := exchange(ctx, r.servers[n], question)
		if err == nil {
			r.mu.Lock()
			r.good = n
			r.mu.Unlock()
			return a
		}
		if ctx.Err() != nil {
			return nil
		}
		if i < len(r.servers) {
			errs = append(errs, err)
		}
	}
	r.notes.add(fmt.Sprintf("cannot resolve %s: no resolver of this machine (%s) answers: %v", questionName(question), resolvConf, errors.Join(errs...)))
	return servfail(question)
}

// exchange asks one resolver over UDP.
func exchange(ctx context.Context, server string, question []byte) ([]byte, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if err := c.SetDeadline(time.Now().Add(dnsTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.Write(question); err != nil {
		return nil, err
	}
	buf := make([]byte, maxDNS)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if n >= headerLen && buf[0] == question[0] && buf[1] == question[1] && buf[2]&0x80 != 0 {
			return buf[:n], nil
		}
	}
}

// dialTCP connects to the first resolver that takes a connection: what is too long for UDP is asked that way.
func (r *resolver) dialTCP(ctx context.Context) (net.Conn, error) {
	var errs []error
	for _, s := range r.servers {
		c, err := (&net.Dialer{Timeout: dnsTimeout}).DialContext(ctx, "tcp", s)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

const headerLen = 12

// servfail is the question as an answer that says that the server failed; nil for what is no question.
func servfail(question []byte) []byte {
	end := questionEnd(question)
	if end == 0 {
		return nil
	}
	a := append([]byte(nil), question[:end]...)
	a[2] = a[2]&0x79 | 0x80            // an answer; opcode and recursion desired stay
	a[3] = 0x82                        // recursion available, SERVFAIL
	copy(a[6:headerLen], []byte{5: 0}) // no records
	return a
}

// questionEnd is where the first question ends; 0 where there is none that is whole.
func questionEnd(q []byte) int {
	if len(q) < headerLen || q[2]&0x80 != 0 || q[4] != 0 || q[5] != 1 {
		return 0
	}
	for i := headerLen; i < len(q) && q[i] < 64; i += int(q[i]) + 1 {
		if q[i] == 0 {
			if i+5 > len(q) {
				return 0
			}
			return i + 5
		}
	}
	return 0
}

// questionName is the name that is asked for, in characters that are safe to print.
func questionName(q []byte) string {
	end := questionEnd(q)
	if end == 0 {
		return "a name"
	}
	var b strings.Builder
	for i := headerLen; q[i] != 0; i += int(q[i]) + 1 {
		for _, c := range q[i+1 : i+1+int(q[i])] {
			if c <= ' ' || c >= 0x7f {
				c = '?'
			}
			b.WriteByte(c)
		}
		b.WriteByte('.')
	}
	return strings.TrimSuffix(b.String(), ".")
}

// packets is what a datagram socket is to the resolver: one read is one question.
type packets interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
}

// serveDNS answers what comes on c until it has been quiet for a while.
func (r *resolver) serveDNS(ctx context.Context, c packets) {
	defer c.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	buf := make([]byte, maxDNS)
	for {
		if c.SetReadDeadline(time.Now().Add(udpIdleDNS)) != nil {
			return
		}
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		question := append([]byte(nil), buf[:n]...)
		if questionEnd(question) == 0 {
			continue
		}
		wg.Go(func() {
			if a := r.answer(ctx, question); a != nil {
				_, _ = c.Write(a) // who no longer listens asks again
			}
		})
	}
}
