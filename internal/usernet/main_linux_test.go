package usernet

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests have a machine of their own: a user and a network namespace, in which this program runs once more. So they are the
// same for root and for ordinary users, and the machine's addresses, routes and resolvers are what a test says. Beside it stands
// the world, another namespace, with a server, and where a test needs one there is a step.
const roleVariable = "USERNET_TEST_ROLE"

var machineIP, worldIP = netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.5")

var world *helper

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(enterMachine())
	case "helper":
		help()
	}
	var err error
	if world, err = makeWorld(); err != nil {
		fmt.Fprintln(os.Stderr, "no network of virtual machines here:", err)
		os.Exit(1)
	}
	code := m.Run()
	world.end()
	os.Exit(code)
}

func enterMachine() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), roleVariable+"=machine")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "run in a user and a network namespace:", err)
		return 1
	}
	return 0
}

// helper is a process in a network namespace of its own that does what it is asked.
type helper struct {
	cmd   *exec.Cmd
	pidfd int
	in    io.WriteCloser
	out   *bufio.Scanner
}

func startHelper() (*helper, error) {
	h := &helper{cmd: exec.Command("/proc/self/exe"), pidfd: -1}
	h.cmd.Env = append(os.Environ(), roleVariable+"=helper")
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, PidFD: &h.pidfd}
	var err error
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewScanner(out)
	return h, h.cmd.Start()
}

func (h *helper) end() {
	h.in.Close()
	_ = h.cmd.Wait()
	unix.Close(h.pidfd)
}

// ask has the helper do something and returns what it says.
func (h *helper) ask(words ...string) string {
	b, _ := json.Marshal(words)
	fmt.Fprintf(h.in, "%s\n", b)
	if !h.out.Scan() {
		return "the helper has ended"
	}
	var answer string
	_ = json.Unmarshal(h.out.Bytes(), &answer)
	return answer
}

// makeWorld joins this process's namespace with that of a server.
func makeWorld() (*helper, error) {
	if err := configure(message(unix.RTM_NEWLINK, 0, linkHeader(1, true))); err != nil {
		return nil, err
	}
	w, err := startHelper()
	if err != nil {
		return nil, err
	}
	far := append(linkHeader(0, false), attr(unix.IFLA_IFNAME, []byte("eth0\x00"))...)
	far = append(far, attr(unix.IFLA_NET_NS_PID, u32(uint32(w.cmd.Process.Pid)))...)
	veth := append(attr(unix.IFLA_INFO_KIND, []byte("veth\x00")), attr(unix.IFLA_INFO_DATA|unix.NLA_F_NESTED, attr(1|unix.NLA_F_NESTED, far))...)
	near := append(linkHeader(0, false), attr(unix.IFLA_IFNAME, []byte("wan\x00"))...)
	if err := configure(message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(near, attr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, veth)...))); err != nil {
		return nil, err
	}
	wan, err := bringUp("wan")
	if err != nil {
		return nil, err
	}
	// The world has all addresses that a test may want to reach, so that nothing but the policy is in the way.
	if err := give(wan.Index, machineIP.String()+"/24", "fd01::1/64"); err != nil {
		return nil, err
	}
	err = Inside(w.pidfd, func() error {
		if err := configure(message(unix.RTM_NEWLINK, 0, linkHeader(1, true))); err != nil {
			return err
		}
		eth0, err := bringUp("eth0")
		if err != nil {
			return err
		}
		return give(eth0.Index, worldIP.String()+"/24", "169.254.169.254/16", "fd01::5/64", "100.100.100.200/32", "fd00:ec2::254/128", "198.51.100.7/32")
	})
	if err != nil {
		return nil, err
	}
	if err := defaultRoutes(wan.Index); err != nil {
		return nil, err
	}
	if s := w.ask("serve", "7777"); s != "serving" {
		return nil, fmt.Errorf("the server: %s", s)
	}
	return w, nil
}

func bringUp(name string) (*net.Interface, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	return i, configure(message(unix.RTM_NEWLINK, 0, linkHeader(int32(i.Index), true)))
}

// give adds addresses to a device of this thread's namespace.
func give(index int, prefixes ...string) error {
	for _, text := range prefixes {
		p := netip.MustParsePrefix(text)
		h := make([]byte, unix.SizeofIfAddrmsg)
		h[0], h[1], h[2] = unix.AF_INET, uint8(p.Bits()), unix.IFA_F_NODAD
		if p.Addr().Is6() {
			h[0] = unix.AF_INET6
		}
		binary.NativeEndian.PutUint32(h[4:], uint32(index))
		body := append(append(h, attr(unix.IFA_LOCAL, p.Addr().AsSlice())...), attr(unix.IFA_ADDRESS, p.Addr().AsSlice())...)
		if err := configure(message(unix.RTM_NEWADDR, unix.NLM_F_CREATE, body)); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// defaultRoutes lead everything to the world.
func defaultRoutes(index int) error {
	for family, gateway := range map[uint8]netip.Addr{unix.AF_INET: worldIP, unix.AF_INET6: netip.MustParseAddr("fd01::5")} {
		h := make([]byte, unix.SizeofRtMsg)
		h[0], h[4], h[5], h[7] = family, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RTN_UNICAST
		body := append(append(h, attr(unix.RTA_GATEWAY, gateway.AsSlice())...), attr(unix.RTA_OIF, u32(uint32(index)))...)
		if err := configure(message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, body)); err != nil {
			return err
		}
	}
	return nil
}

// step starts a step with a network, which ends with the test.
func step(t testing.TB, o Options) (*helper, *Network) {
	t.Helper()
	h, err := startHelper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.end)
	n, err := Attach(h.pidfd, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return h, n
}

// help is the life of a helper: it answers questions until its input ends.
func help() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var words []string
		_ = json.Unmarshal(in.Bytes(), &words)
		b, _ := json.Marshal(act(words))
		fmt.Printf("%s\n", b)
	}
	os.Exit(0)
}

func act(w []string) string {
	const wait = 4 * time.Second
	switch w[0] {
	case "serve": // a word for each connection, then an echo; 64 MiB for "download"; over UDP an echo; DNS
		return serveWorld(w[1])
	case "dial": // network, address, what to say
		c, err := net.DialTimeout(w[1], w[2], wait)
		if err != nil {
			return "error: " + err.Error()
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(wait))
		if _, err := io.WriteString(c, w[3]); err != nil {
			return "error: " + err.Error()
		}
		b := make([]byte, 1<<16)
		n, err := c.Read(b)
		if err != nil {
			return "error: " + err.Error()
		}
		return string(b[:n])
	case "abstract":
		c, err := net.Dial("unix", "@"+w[1])
		if err != nil {
			return "error: " + err.Error()
		}
		c.Close()
		return "connected"
	case "lookup": // network, name
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, w[1], net.JoinHostPort(GatewayIP4.String(), "53"))
		}}
		list, err := r.LookupHost(context.Background(), w[2])
		if err != nil {
			return "error: " + err.Error()
		}
		return strings.Join(list, " ")
	case "get": // proxy or "", URL
		t := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		if w[1] != "" {
			u, _ := url.Parse(w[1])
			t.Proxy = http.ProxyURL(u)
		}
		r, err := (&http.Client{Transport: t, Timeout: wait}).Get(w[2])
		if err != nil {
			return "error: " + err.Error()
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		return fmt.Sprintf("%d %s", r.StatusCode, strings.TrimSpace(string(b)))
	case "listen":
		l, err := net.Listen("tcp", w[1])
		if err != nil {
			return "error: " + err.Error()
		}
		go echo(l)
		return "listening"
	case "copy": // address, up or down, MiB
		c, err := net.DialTimeout("tcp", w[1], wait)
		if err != nil {
			return "error: " + err.Error()
		}
		defer c.Close()
		var n int64
		fmt.Fprintf(c, "%s %s\n", w[2], w[3])
		if w[2] == "down" {
			n, err = io.Copy(io.Discard, c)
		} else {
			var mib int64
			fmt.Sscan(w[3], &mib)
			if n, err = io.Copy(c, io.LimitReader(zeros{}, mib<<20)); err == nil {
				c.(*net.TCPConn).CloseWrite()
				_, err = io.Copy(io.Discard, c)
			}
		}
		if err != nil {
			return "error: " + err.Error()
		}
		return fmt.Sprint(n)
	case "interfaces":
		list, _ := net.Interfaces()
		var names []string
		for _, i := range list {
			names = append(names, i.Name)
		}
		return strings.Join(names, " ")
	}
	return "error: what is " + w[0]
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func serveWorld(port string) string {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err.Error()
	}
	go echo(l)
	u, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err.Error()
	}
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(append([]byte("echo "), b[:n]...), from)
		}
	}()
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, r.URL.RawQuery, http.StatusFound)
			return
		}
		fmt.Fprintf(w, "world %s", r.URL.Path)
	})
	plain, err := net.Listen("tcp", ":7780")
	if err != nil {
		return err.Error()
	}
	go http.Serve(plain, page)
	s := httptest.NewUnstartedServer(page)
	if s.Listener, err = net.Listen("tcp", ":7781"); err != nil {
		return err.Error()
	}
	s.StartTLS()
	for _, network := range []string{"udp", "tcp"} {
		if err := serveNames(network); err != nil {
			return err.Error()
		}
	}
	return "serving"
}

func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			b := make([]byte, 1<<16)
			n, err := r.Read(b)
			if err != nil {
				return
			}
			var mib int64
			switch line := string(b[:n]); {
			case strings.HasPrefix(line, "down"):
				fmt.Sscanf(line, "down %d", &mib)
				_, _ = io.Copy(c, io.LimitReader(zeros{}, mib<<20))
			case strings.HasPrefix(line, "up"):
				_, _ = io.Copy(io.Discard, r)
			default:
				fmt.Fprintf(c, "echo %s", b[:n])
			}
		}()
	}
}
