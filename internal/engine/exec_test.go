package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// wants checks that the log holds the lines.
func (o outcome) wants(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+o.log(), "\n"+l+"\n") {
			t.Errorf("no line %q in\n%s", l, o.text())
		}
	}
}

func TestExecProcess(t *testing.T) {
	b := newBench(t)
	b.options = func(o *Options) {
		o.Allow = map[entitlements.Entitlement]bool{entitlements.EntitlementNetworkHost: true}
		o.AddHosts = []*pb.HostIP{{Host: "db", IP: "10.1.2.3"}}
		o.Ulimits = []*pb.Ulimit{{Name: "core", Soft: 100, Hard: 200}}
	}
	web := b.base().File(llb.Mkdir("/work", 0o755)).
		Run(run("id ; env HOME PATH HTTP_PROXY http_proxy ; cat /etc/hosts ; limit 4"), llb.User("web"), llb.Dir("/work"),
			llb.Network(llb.NetModeHost), llb.WithProxy(llb.ProxyEnv{HTTPProxy: "http://proxy"})).Root()
	out := b.must(web)
	if strings.Contains(out.log(), "uid 33") { // with one id nobody can become another
		out.wants(t, "uid 33 gid 44 groups [44 55] cwd /work host buildkitsandbox")
	}
	out.wants(t, "HOME=/home/web true", "HTTP_PROXY=http://proxy true", "http_proxy=http://proxy true", "limit 100 200",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin true", "10.1.2.3\tdb")
}

// Nothing but what a step writes itself is in its layer.
func TestExecLeavesNoTraceOfMounts(t *testing.T) {
	b := newBench(t)
	other := llb.Scratch().File(llb.Mkfile("/f", 0o644, []byte("other")).Mkdir("/d", 0o755))
	st := b.base().Run(run("write /mnt/bind/new x ; write /cache/x/c y ; write /t/z q ; cat /mnt/bind/f /ro ; ls /"),
		llb.AddMount("/mnt/bind", other, llb.ForceNoOutput), llb.AddMount("/ro", other, llb.SourcePath("/f"), llb.Readonly),
		llb.AddMount("/cache/x", llb.Scratch(), llb.AsPersistentCacheDir("x", llb.CacheMountShared)),
		llb.AddMount("/t", llb.Scratch(), llb.Tmpfs())).Root()
	out := b.must(st)
	out.wants(t, "/mnt/bind/f: other", "/ro: other")
	if l := out.layers[len(out.layers)-1]; l.DiffID != emptyDiffID {
		t.Errorf("the step's layer holds something: %+v", l)
	}
	// The source of the bind mount is as it was.
	again := b.must(b.base().Run(run("ls /mnt"), llb.AddMount("/mnt", other, llb.Readonly)).Root())
	again.wants(t, "/mnt: d f")
}

// A working directory that is missing belongs to the user of the step.
func TestMissingCwd(t *testing.T) {
	b := newBench(t)
	st := b.base().Run(run("id"), llb.Dir("/a/b"), llb.User("33:44")).Root()
	e := b.engine(nil)
	defer e.Close()
	handle, err := solve(t, e, st)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/a", "/a/b"} {
		got, err := handle.StatFile(t.Context(), gwclient.StatRequest{Path: name})
		if err != nil || got.Uid != 33 || got.Gid != 44 || os.FileMode(got.Mode).Perm() != 0o755 {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestExecOutputOfAMount(t *testing.T) {
	b := newBench(t)
	other := llb.Scratch().File(llb.Mkfile("/f", 0o644, []byte("other")))
	e := b.base().Run(run("write /mnt/new x ; write /own y"))
	mount := e.AddMount("/mnt", other)
	if out := b.must(mount, "/f", "/new"); out.files["/f"] != "other" || out.files["/new"] != "x" {
		t.Errorf("the mount: %q", out.files)
	}
	if out := b.must(e.Root(), "/own"); out.files["/own"] != "y" {
		t.Errorf("the root: %q", out.files)
	}
}

func TestExecReadonlyRoot(t *testing.T) {
	b := newBench(t)
	out := b.build(b.base().Run(run("write /m/x y ; write /x y"), llb.ReadonlyRootFS()).AddMount("/m", llb.Scratch()))
	if out.err == nil || !strings.Contains(out.log(), "read-only file system") {
		t.Errorf("got %v\n%s", out.err, out.text())
	}
}

func TestCacheMounts(t *testing.T) {
	b := newBench(t)
	cache := func(id string) llb.RunOption {
		return llb.AddMount("/c", llb.Scratch(), llb.AsPersistentCacheDir(id, llb.CacheMountLocked))
	}
	b.must(b.base().Run(run("append /c/log one"), cache("a")).Root())
	out := b.must(b.base().Run(run("append /c/log two ; cat /c/log"), cache("a")).Root())
	out.wants(t, "/c/log: onetwo")
	b.must(b.base().Run(run("missing /c/log"), cache("b")).Root())

	// One that starts with something is another cache, and keeps what it started with.
	start := llb.Scratch().File(llb.Mkdir("/cache", 0o700).Mkfile("/cache/first", 0o644, []byte("there")))
	with := llb.AddMount("/c", start, llb.AsPersistentCacheDir("a", llb.CacheMountShared), llb.SourcePath("/cache"))
	out = b.must(b.base().Run(run("missing /c/log ; cat /c/first ; stat /c"), with).Root())
	out.wants(t, "/c/first: there", "/c: drwx------ 0:0")
}

// Go's caches: of what a step leaves, entries alone are seen by later steps, those of its own Dockerfile; and what is written
// where an entry is already changes nothing.
func TestGoCaches(t *testing.T) {
	b := newBench(t)
	cache := func(id string) llb.RunOption {
		return llb.AddMount("/c", llb.Scratch(), llb.AsPersistentCacheDir(id, llb.CacheMountShared))
	}
	output := func(content string) string {
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
		return "/c/" + sum[:2] + "/" + sum + "-d"
	}
	// The tool writes words: the file of an action has blanks and a newline, and is copied from the root.
	action := func(action byte, content string) string {
		return fmt.Sprintf("v1 %064x %x %20d %20d\n", action, sha256.Sum256([]byte(content)), len(content), 1)
	}
	base := b.base().File(llb.Mkfile("/action", 0o644, []byte(action(1, "made"))).Mkfile("/planted", 0o644, []byte(action(2, "planted"))))
	put := func(content, as, from string, n byte) string {
		out := output(as)
		return fmt.Sprintf("mkdir /c/00 ; mkdir %s ; write %s %s ; copy %s /c/00/%064x-a", path.Dir(out), out, content, from, n)
	}
	out, planted := output("made"), output("planted")
	b.must(base.Run(run(put("made", "made", "/action", 1)+" ; write /c/other x ; mkdir /c/fuzz ; write /c/fuzz/x y"), cache(goCachePrefix+"build+p")).Root())
	b.must(base.Run(run("cat "+out+" ; missing /c/other ; missing /c/fuzz ; append "+out+" planted ; "+put("another", "planted", "/planted", 2)),
		cache(goCachePrefix+"build+p")).Root()).wants(t, out+": made")
	b.must(base.Run(run("cat "+out+" ; missing "+planted+fmt.Sprintf(" ; missing /c/00/%064x-a", 2)), cache(goCachePrefix+"build+p")).Root()).wants(t, out+": made")
	b.must(base.Run(run("missing "+out), cache(goCachePrefix+"build+q")).Root())
	// A result of a test counts up to the end of its step.
	b.must(base.Run(run("cat /c/testexpire.txt /c/trim.txt"), cache(goCachePrefix+"build+p")).Root())
}

func TestSecrets(t *testing.T) {
	b := newBench(t)
	b.options = func(o *Options) {
		o.Secrets = func(_ context.Context, id string) ([]byte, error) {
			if id == "key" {
				return []byte("swordfish"), nil
			}
			return nil, ErrNoSecret
		}
	}
	secrets := []llb.RunOption{
		llb.AddSecret("/run/secrets/key", llb.SecretID("key"), llb.SecretFileOpt(0, 0, 0o440)),
		llb.AddSecret("KEY", llb.SecretID("key"), llb.SecretAsEnv(true)),
		llb.AddSecret("/run/none", llb.SecretID("none"), llb.SecretOptional),
	}
	out := b.must(b.base().Run(append(secrets, run("cat /run/secrets/key ; env KEY ; stat /run/secrets/key ; missing /run/none"))...).Root())
	out.wants(t, "/run/secrets/key: swordfish", "KEY=swordfish true", "/run/secrets/key: -r--r----- 0:0")
	if l := out.layers[len(out.layers)-1]; l.DiffID != emptyDiffID {
		t.Error("the secret left something in the layer")
	}
	missing := b.build(b.base().Run(run("echo x"), llb.AddSecret("/s", llb.SecretID("none"))).Root())
	if !errors.Is(missing.err, ErrNoSecret) || !strings.Contains(missing.err.Error(), "secret none") {
		t.Errorf("a missing secret: %v", missing.err)
	}
}

func TestSSH(t *testing.T) {
	b := newBench(t)
	dir, err := os.MkdirTemp("", "ssh") // short: a socket's name has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	agent, err := net.Listen("unix", filepath.Join(dir, "agent"))
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	go func() {
		for {
			c, err := agent.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("hello"))
			c.Close()
		}
	}()
	b.options = func(o *Options) {
		o.SSH = func(id string) (string, error) {
			if id == "default" {
				return filepath.Join(dir, "agent"), nil
			}
			return "", ErrNoSecret
		}
	}
	out := b.must(b.base().Run(run("dial /run/agent"), llb.AddSSHSocket(llb.SSHSocketTarget("/run/agent"), llb.SSHID("default"))).Root())
	out.wants(t, "socket says hello")
	if out := b.build(b.base().Run(run("echo"), llb.AddSSHSocket(llb.SSHID("other"))).Root()); !errors.Is(out.err, ErrNoSecret) {
		t.Errorf("a missing agent: %v", out.err)
	}
}

func TestNetworkNone(t *testing.T) {
	b := newBench(t)
	b.must(b.base().Run(run("interfaces"), llb.Network(llb.NetModeNone)).Root()).wants(t, "interfaces lo")
	b.options = func(o *Options) { o.Network = pb.NetMode_NONE }
	b.must(b.base().Run(run("interfaces ; echo")).Root()).wants(t, "interfaces lo")
}

// Issue 12, A3: a step has a network of its own, and finds nothing of this machine in it: neither what listens on the loopback
// interface, nor on an address that others reach, nor abstract sockets; but by a door it does.
func TestNetworkIsPrivate(t *testing.T) {
	b := newBench(t)
	var ports []string
	for range 2 {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	abstract := fmt.Sprintf("@skiff-test-%d", os.Getpid())
	a, err := net.Listen("unix", abstract)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	addresses := []string{"127.0.0.1:" + ports[0], "[::1]:" + ports[0], "[::ffff:127.0.0.1]:" + ports[0], "0.0.0.0:" + ports[0]}
	interfaces, _ := net.InterfaceAddrs()
	for _, i := range interfaces {
		if ip := i.(*net.IPNet).IP; ip.IsGlobalUnicast() {
			addresses = append(addresses, net.JoinHostPort(ip.String(), ports[0]))
		}
	}
	out := b.must(b.base().Run(run("interfaces ; connect tcp " + strings.Join(addresses, " ") + " ; connect unix " + abstract)).Root())
	out.wants(t, "interfaces lo eth0 uplink", "connect "+abstract+" no")
	for _, address := range addresses {
		out.wants(t, "connect "+address+" no")
	}
	b.options = func(o *Options) { o.Doors = []string{"GOPROXY=http://127.0.0.1:" + ports[1] + ",direct"} }
	b.must(b.base().Run(run("connect tcp 127.0.0.1:"+ports[1]+" 127.0.0.1:"+ports[0])).Root()).
		wants(t, "connect 127.0.0.1:"+ports[1]+" yes", "connect 127.0.0.1:"+ports[0]+" no")
	b.options = func(o *Options) {
		o.Allow = map[entitlements.Entitlement]bool{entitlements.EntitlementNetworkHost: true}
	}
	b.must(b.base().Run(run("connect tcp 127.0.0.1:"+ports[0]+" ; connect unix "+abstract), llb.Network(llb.NetModeHost)).Root()).
		wants(t, "connect 127.0.0.1:"+ports[0]+" yes", "connect "+abstract+" yes")
}

// Issue 12, D4: a step sees no password of this machine's proxies.
func TestProxyPasswordsStayOutside(t *testing.T) {
	b := newBench(t)
	bin, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	b.options = func(o *Options) {
		o.Bases = bases{skifftest.Layer(t, skifftest.Entry{Name: "bin/sh", Mode: 0o755, Body: string(bin)})}
		o.StepEnv = func(context.Context, StepInfo) (StepExtras, error) {
			return StepExtras{Env: []string{
				"HTTP_PROXY=http://user:hunter2@127.0.0.1:3128", "https_proxy=user:hunter2@proxy.example", "ALL_PROXY=socks5://user:hunter2@127.0.0.1",
				"GOPROXY=https://user:hunter2@mod.example/go|https://proxy.example,direct", "NO_PROXY=localhost",
			}}, nil
		}
		o.Allow = map[entitlements.Entitlement]bool{entitlements.EntitlementNetworkHost: true}
	}
	show := "env HTTP_PROXY https_proxy ALL_PROXY GOPROXY NO_PROXY"
	out := b.must(sourceState("gobase://1.2.3").Run(run(show)).Root())
	out.wants(t, "HTTP_PROXY=http://127.0.83.1:3128 true", "https_proxy=http://127.0.83.1:3129 true", "ALL_PROXY=socks5://127.0.83.1:3130 true",
		"GOPROXY=http://127.0.83.1:3131/go|https://proxy.example,direct true", "NO_PROXY=localhost true")
	host := b.must(sourceState("gobase://1.2.3").Run(run(show), llb.Network(llb.NetModeHost)).Root())
	host.wants(t, "HTTP_PROXY=http://127.0.0.1:3128 true", "GOPROXY=https://mod.example/go|https://proxy.example,direct true")
	if text := out.text() + host.text(); strings.Contains(text, "hunter2") {
		t.Errorf("a password:\n%s", text)
	}
}

// The host's network is for those alone whom the build gives it, whatever the build's own network is (issue 12, A3).
func TestHostNetworkNeedsLeave(t *testing.T) {
	for _, network := range []pb.NetMode{pb.NetMode_UNSET, pb.NetMode_HOST, pb.NetMode_NONE} {
		b := newBench(t)
		b.options = func(o *Options) { o.Network = network }
		out := b.build(b.base().Run(run("interfaces"), llb.Network(llb.NetModeHost)).Root())
		if out.err == nil || !strings.Contains(out.err.Error(), "network.host is not allowed: give the build --allow=network.host") || out.child {
			t.Errorf("build with network %s: got %v", network, out.err)
		}
	}
}

func TestInsecureNeedsLeave(t *testing.T) {
	b := newBench(t)
	st := b.base().Run(run("echo done"), llb.Security(llb.SecurityModeInsecure)).Root()
	if out := b.build(st); out.err == nil || !strings.Contains(out.err.Error(), "security.insecure is not allowed") || out.child {
		t.Errorf("got %v", out.err)
	}
	b.options = func(o *Options) {
		o.Allow = map[entitlements.Entitlement]bool{entitlements.EntitlementSecurityInsecure: true}
	}
	b.must(st).wants(t, "done")
}

func TestFailedStep(t *testing.T) {
	b := newBench(t)
	out := b.build(b.base().Run(run("echo last words ; exit 7")).Root())
	var step *StepError
	var exit *sandbox.ExitError
	if !errors.As(out.err, &step) || !errors.As(out.err, &exit) || exit.Code != 7 {
		t.Fatalf("got %v", out.err)
	}
	if want := `process "/bin/sh echo last words ; exit 7" did not complete successfully: exit code: 7`; out.err.Error() != want {
		t.Errorf("got %q, want %q", out.err, want)
	}
	if len(step.Log) != 1 || step.Log[0] != "last words" {
		t.Errorf("log: %q", step.Log)
	}
	if !strings.Contains(out.text(), "failed /bin/sh echo last words") {
		t.Errorf("told:\n%s", out.text())
	}
	notFound := b.build(b.base().Run(llb.Args([]string{"/nothing"})).Root())
	if !errors.As(notFound.err, &exit) || exit.Code != 127 {
		t.Errorf("a program that is not there: %v", notFound.err)
	}
	if out := b.build(b.base().Run(run("echo"), llb.User("nobody")).Root()); out.err == nil || !strings.Contains(out.err.Error(), "unable to find user nobody") {
		t.Errorf("a user that is not there: %v", out.err)
	}
}

func TestForeignPlatform(t *testing.T) {
	b := newBench(t)
	out := b.build(b.base().Run(run("echo"), llb.Platform(mipsPlatform)).Root())
	if out.err == nil || !strings.Contains(out.err.Error(), "FROM --platform=$BUILDPLATFORM") {
		t.Errorf("got %v", out.err)
	}
}

// When a build is cancelled its steps are gone within a second, and nothing of them is kept.
func TestCancel(t *testing.T) {
	b := newBench(t)
	e := b.engine(&recorder{})
	defer e.Close()
	started := make(chan struct{})
	e.status = newStatus((&recorder{}).status)
	ref, err := solve(t, e, b.base().Run(run("write /x y ; echo ; sleep 60s")).Root())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		close(started)
		done <- ref.Evaluate(ctx)
	}()
	<-started
	time.Sleep(500 * time.Millisecond)
	cancel()
	at := time.Now()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	if d := time.Since(at); d > 25*time.Second { // of the minute that the step sleeps
		t.Errorf("it took %v", d)
	}
	left, _ := filepath.Glob(filepath.Join(b.store.Root(), "tmp", "*"))
	for _, l := range left {
		if strings.Contains(l, "job-") {
			t.Errorf("left: %s", l)
		}
	}
}

// A step with cgo does not find what was compiled with other headers than those it has.
func TestCacheOfC(t *testing.T) {
	b := newBench(t)
	build := func(header, script string) {
		t.Helper()
		src := b.base().File(llb.Mkdir("/src", 0o755).Mkdir("/src/include", 0o755).Mkfile("/src/include/x.h", 0o644, []byte(header)).Mkfile("/src/main.go", 0o644, []byte(script)))
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte("object")))
		made := fmt.Sprintf("/c/%s/%s-d", sum[:2], sum)
		entry := src.File(llb.Mkfile("/action", 0o644, fmt.Appendf(nil, "v1 %064x %s %20d %20d\n", 1, sum, len("object"), 1)))
		script = strings.NewReplacer("PUT", fmt.Sprintf("mkdir /c/00 ; mkdir %s ; write %s object ; copy /action /c/00/%064x-a", path.Dir(made), made, 1), "MADE", made).Replace(script)
		b.must(entry.Run(run(script), llb.AddMount("/c", llb.Scratch(), llb.AsPersistentCacheDir(goCachePrefix+"build+p", llb.CacheMountShared)),
			llb.WithDescription(map[string]string{hintC: "/src\n/usr/include"})).Root())
	}
	build("one", "PUT")
	build("one", "cat MADE")
	build("two", "missing MADE")
}

// A step that removes the folder where a cache of Go's is mounted does so: the mount makes way.
func TestStepThatRemovesGoCaches(t *testing.T) {
	b := newBench(t)
	st := b.base().File(llb.Mkdir("/c", 0o755).Mkfile("/c/x", 0o644, nil)).Run(run("rm /c ; missing /c"),
		llb.AddMount("/c", llb.Scratch(), llb.AsPersistentCacheDir(goCachePrefix+"mod+p", llb.CacheMountShared))).Root()
	b.must(st)
	if out := b.build(b.base().Run(run("rm /c ; fail"), llb.AddMount("/c", llb.Scratch(), llb.AsPersistentCacheDir("user", llb.CacheMountShared))).Root()); out.err == nil {
		t.Error("a mount of the Dockerfile's own makes way, too")
	}
}
