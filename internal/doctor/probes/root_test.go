//go:build linux

package probes

import (
	"debug/elf"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/rootfiles"
	"github.com/skiff-build/skiff/internal/sandbox"
)

// kinds are the needs that can be supplied and taken away, in the order of the table.
var kinds = []doctor.NeedKind{
	doctor.NeedCA, doctor.NeedZones, doctor.NeedUsers, doctor.NeedTemp, doctor.NeedHome, doctor.NeedLoader, doctor.NeedProgram,
	doctor.NeedSyslog, doctor.NeedMIME, doctor.NeedFiles,
}

// bench runs programs in empty roots.
type bench struct {
	child *sandbox.Child
	peer  *peer
	tool  string // a program that others run
	log   string // a directory with the socket of a system log
}

// uid is who runs the programs: nobody in particular, who may write to nothing of root's. Where only one id exists it is root.
const uid = 65532

func (b *bench) unprivileged() bool { return b.child.Mode() != sandbox.ModeOneID }

func newBench(t *testing.T, tool string) *bench {
	t.Helper()
	c, err := sandbox.Enter(t.Context(), sandbox.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// The path of a socket is short; that of a test's own directory need not be.
	dir, err := os.MkdirTemp("", "probes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "log")
	l, err := net.ListenPacket("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	return &bench{child: c, peer: newPeer(t), tool: tool, log: socket}
}

// run runs a program in a root that holds it and what is supplied.
func (b *bench) run(t *testing.T, p *probe, supply map[doctor.NeedKind]bool) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	s := sandbox.DefaultSpec()
	sandbox.HostNetwork(s) // the peers are on this machine
	s.Root.Path = root
	s.Process.Args = append([]string{"/app"}, p.args...)
	for i, arg := range s.Process.Args {
		s.Process.Args[i] = strings.ReplaceAll(arg, "PEER", b.peer.name)
	}
	s.Process.Env = append([]string{"PATH=/bin", "ZONE=Asia/Tokyo", "TOOL=probetool"}, b.peer.env...)
	s.Hostname = "probe"
	if b.unprivileged() {
		s.Process.User.UID, s.Process.User.GID = uid, uid
		s.Process.Capabilities = nil
	}
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shared := func(name string, mode os.FileMode) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // past the umask
			t.Fatal(err)
		}
	}
	bind := func(name, source string) {
		if name != "/dev/log" {
			write(name, "")
		}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: name, Type: "bind", Source: source, Options: []string{"bind"}})
	}
	shared("", 0o755)
	shared("data", 0o777) // a volume of the program's
	bind("/app", p.file)
	write("/etc/hosts", "127.0.0.1 localhost "+peerName+"\n") // what a container runtime supplies
	for name, text := range p.files {
		write(name, strings.ReplaceAll(text, "PEER", b.peer.name))
	}
	if supply[doctor.NeedCA] {
		write(rootfiles.BundlePath, string(b.peer.root))
	}
	if supply[doctor.NeedZones] {
		for _, name := range []string{"Asia/Tokyo", "Europe/Berlin"} {
			z, err := rootfiles.Zone(name)
			if err != nil {
				t.Fatal(err)
			}
			write(filepath.Join(rootfiles.ZonesPath, name), string(z.Data))
		}
	}
	if supply[doctor.NeedUsers] {
		// Home directories are left to HOME, which is a need of its own.
		write(rootfiles.PasswdPath, "root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534::/:/bin/false\nnonroot:x:65532:65532::/:/bin/false\n")
		write(rootfiles.GroupPath, rootfiles.Group)
	}
	if supply[doctor.NeedTemp] {
		shared("tmp", 0o777|os.ModeSticky)
	}
	if supply[doctor.NeedHome] {
		shared("home/nonroot", 0o777)
		s.Process.Env = append(s.Process.Env, "HOME=/home/nonroot")
	}
	if supply[doctor.NeedLoader] && p.binary.Interp != "" {
		for path, source := range libraries(t, p.binary) {
			bind(path, source)
		}
	}
	if supply[doctor.NeedProgram] {
		bind("/bin/"+p.tool, b.tool)
	}
	if supply[doctor.NeedSyslog] {
		bind("/dev/log", b.log)
	}
	if supply[doctor.NeedMIME] {
		write("/etc/mime.types", "text/x-probe probe\n")
	}
	if supply[doctor.NeedFiles] {
		write("/templates/page.html", "hello\n")
	}
	return run(t, b.child, s, p.timeout)
}

// libraries are the loader and all libraries that a binary needs, from this machine: path in the root, file here.
func libraries(t *testing.T, b *doctor.Binary) map[string]string {
	t.Helper()
	found := map[string]string{b.Interp: b.Interp}
	todo := slices.Clone(b.Libraries)
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if strings.Contains(strings.Join(slices.Collect(maps.Keys(found)), " "), "/"+name) {
			continue
		}
		at := ""
		for _, dir := range []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				at = filepath.Join(dir, name)
				break
			}
		}
		if at == "" {
			t.Fatalf("%s is nowhere on this machine", name)
		}
		found["/lib/"+name] = at
		f, err := elf.Open(at)
		if err != nil {
			t.Fatal(err)
		}
		more, err := f.ImportedLibraries()
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		todo = append(todo, more...)
	}
	return found
}
