package torture

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/skifftest"
)

func TestMain(m *testing.M) { os.Exit(skifftest.Main(m)) }

// rounds is how often something is done, by what SKIFF_TORTURE says.
func rounds(short, middle, full int) int {
	switch os.Getenv("SKIFF_TORTURE") {
	case "middle":
		return middle
	case "full":
		return full
	}
	return short
}

// rack is what is tortured: a state with three names, made of two Dockerfiles, and what their builds give.
type rack struct {
	t        *testing.T
	bin      string
	base     string // context of base:1, which app:1 stands on
	app      string
	pristine string // a state to which nothing happens
	work     string // the state that is tortured

	ids   map[string]string // of app:1, by the content of its file n
	saved map[string]string // digest of what `skiff save app:1` gives, by the same
	rand  *rand.Rand
}

var contents = []string{"one", "two", "three"}

func newRack(t *testing.T) *rack {
	t.Helper()
	skifftest.NoLeftovers(t)
	if _, err := sandbox.Probe(); err != nil {
		t.Skip("steps cannot run here: ", err)
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SKIFF_TORTURE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("SKIFF_TORTURE_SEED=%d", seed)
	dir := t.TempDir()
	r := &rack{t: t, bin: skifftest.Binary(t), base: dir + "/base", app: dir + "/app", pristine: dir + "/pristine", work: dir + "/work",
		ids: map[string]string{}, saved: map[string]string{}, rand: rand.New(rand.NewPCG(seed, 1))}
	for _, d := range []string{r.base, r.app} {
		r.must(os.Mkdir(d, 0o755))
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", r.base+"/tool", "./testdata/tool")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.write(r.base+"/Dockerfile", "FROM scratch\nCOPY tool /tool\n")
	r.write(r.app+"/Dockerfile", `FROM base:1 AS a
COPY big /big
RUN ["/tool", "fill", "/d", "30"]
RUN ["/tool", "sum", "/sum", "/big", "/d"]
FROM base:1
COPY --from=a /d /d
COPY --from=a /sum /sum
COPY big n /
RUN ["/tool", "sum", "/all", "/d", "/sum", "/big", "/n"]
`)
	big := make([]byte, 200_000)
	for i := range big {
		big[i] = byte(r.rand.Uint32())
	}
	r.must(os.WriteFile(r.app+"/big", big, 0o644))
	for i, n := range contents {
		state := r.pristine
		if i > 0 {
			state = dir + "/" + n // others would know too much
			r.copyState(r.pristine, state)
		} else {
			r.run(state, "build", "-q", "-t", "base:1", r.base)
			r.run(state, "tag", "base:1", "keep:1")
		}
		r.ids[n] = r.run(state, r.build(n)...)
		r.saved[n] = r.save(state)
	}
	return r
}

// build is the command that builds app:1 with that content of its file n.
func (r *rack) build(n string) []string {
	r.write(r.app+"/n", n)
	return []string{"build", "-q", "-t", "app:1", r.app}
}

func (r *rack) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rack) write(path, text string) {
	r.t.Helper()
	r.must(os.WriteFile(path, []byte(text), 0o644))
}

func (r *rack) command(state string, args ...string) *exec.Cmd {
	cmd := exec.Command(r.bin, args...)
	cmd.Env = append(os.Environ(), "SKIFF_ROOT="+state, "HOME="+filepath.Dir(r.work), "XDG_CONFIG_HOME=", "DOCKER_CONFIG="+r.base)
	return cmd
}

// try runs skiff and returns the last line of its output, and what it said where it failed.
func (r *rack) try(state string, args ...string) (out, failed string) {
	cmd := r.command(state, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if strings.Contains(stderr.String(), "goroutine ") {
		r.t.Fatalf("skiff %v panicked:\n%s", args, &stderr)
	}
	if err != nil {
		return "", cmp.Or(strings.TrimSpace(stderr.String()), err.Error())
	}
	return strings.TrimSpace(stdout.String()), ""
}

func (r *rack) run(state string, args ...string) string {
	r.t.Helper()
	out, failed := r.try(state, args...)
	if failed != "" {
		r.t.Fatalf("skiff %v: %s", args, failed)
	}
	return out
}

// save digests what app:1 is when it leaves. Each blob must be what its name says.
func (r *rack) save(state string) string {
	r.t.Helper()
	file := state + ".tar"
	r.run(state, "save", "-o", file, "app:1")
	return r.digest(file)
}

func (r *rack) digest(file string) string {
	r.t.Helper()
	f, err := os.Open(file)
	r.must(err)
	defer f.Close()
	var lines []string
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		r.must(err)
		sum := sha256.New()
		_, err = io.Copy(sum, tr)
		r.must(err)
		got := hex.EncodeToString(sum.Sum(nil))
		if want, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && want != got && h.Typeflag == tar.TypeReg {
			r.t.Errorf("WRONG: %s holds %s", h.Name, got)
		}
		lines = append(lines, h.Name+" "+got)
	}
	slices.Sort(lines)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(lines, "\n"))))
}

// copyState copies a state as `cp -a` does, which is how people move one.
func (r *rack) copyState(from, to string) {
	r.t.Helper()
	r.must(errors.Join(removeAll(to), os.RemoveAll(to)))
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
}

// removeAll removes a state with folders that forbid it.
func removeAll(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// files lists the files of the tortured state, by kind: the first one or two components of their names.
func (r *rack) files() (all []string, kinds map[string][]string) {
	kinds = map[string][]string{}
	r.must(filepath.WalkDir(r.work, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if i, err := e.Info(); err != nil || i.Size() == 0 {
			return err
		}
		name, _ := filepath.Rel(r.work, path)
		parts := strings.Split(name, "/")
		if n := len(parts); n > 2 && (parts[0] == "records" || parts[0] == "oci") {
			parts = parts[:2]
		} else {
			parts = parts[:1]
		}
		kind := strings.Join(parts, "/")
		all, kinds[kind] = append(all, path), append(kinds[kind], path)
		return nil
	}))
	return all, kinds
}

// pick takes a file such that each kind is as likely as the others.
func (r *rack) pick() string {
	_, kinds := r.files()
	var names []string
	for k := range kinds {
		names = append(names, k)
	}
	slices.Sort(names)
	list := kinds[names[r.rand.IntN(len(names))]]
	return list[r.rand.IntN(len(list))]
}

// ways are the words of which the last line of an error that a second try does not mend must have one: what to do.
var ways = []string{"build again", "build or pull again", "build, pull or load", "--root"}

// mended runs a command twice at most. Where it fails twice it must say what to do; that is done, and then it works.
func (r *rack) mended(what string, args ...string) string {
	r.t.Helper()
	var failed string
	for range 2 {
		var out string
		if out, failed = r.try(r.work, args...); failed == "" {
			return out
		}
	}
	last := failed[strings.LastIndex(failed, "\n")+1:]
	if !slices.ContainsFunc(ways, func(w string) bool { return strings.Contains(last, w) }) {
		r.t.Errorf("STUCK: %s: skiff %v: %s", what, args, failed)
		return ""
	}
	r.try(r.work, "build", "-q", "-t", "base:1", r.base)
	if args[0] == "save" || args[0] == "images" {
		r.try(r.work, r.build(contents[0])...)
	}
	out, again := r.try(r.work, args...)
	if again != "" {
		r.t.Errorf("STUCK: %s: skiff %v said %s\nand after that was done: %s", what, args, failed, again)
	}
	return out
}

// check holds the tortured state against the pristine one. names says that all of them must be there.
func (r *rack) check(what string, names bool) {
	r.t.Helper()
	one, other := contents[0], contents[1+r.rand.IntN(len(contents)-1)]
	for _, n := range []string{one, other} {
		if id := r.mended(what, r.build(n)...); id != r.ids[n] && id != "" {
			r.t.Errorf("WRONG: %s: the build of %s gives %s, not %s", what, n, id, r.ids[n])
		}
		file := r.work + ".tar"
		os.Remove(file)
		r.mended(what, "save", "-o", file, "app:1")
		if _, err := os.Stat(file); err == nil {
			if got := r.digest(file); got != r.saved[n] && got != r.saved[one] {
				r.t.Errorf("WRONG: %s: what is saved of %s differs", what, n)
			}
		}
	}
	if !names {
		return
	}
	list := r.mended(what, "images", "--format", "{{.Repository}}")
	for _, want := range []string{"base", "keep", "app"} {
		if !slices.Contains(strings.Fields(list), want) {
			r.t.Errorf("LOST: %s: %s is not among %q", what, want, list)
		}
	}
}

// torture copies the pristine state, does something to the copy, and checks it, n times.
func (r *rack) torture(n int, damage func() (what string, names bool)) {
	r.t.Helper()
	for i := range n {
		r.copyState(r.pristine, r.work)
		what, names := damage()
		if !names { // as in a state that never knew the name
			r.mended(what, "build", "-q", "-t", "base:1", r.base)
		}
		r.check(fmt.Sprintf("round %d: %s", i, what), names)
		if i%50 == 49 {
			r.t.Logf("%d rounds", i+1)
		}
		if r.t.Failed() && os.Getenv("SKIFF_TORTURE") != "full" {
			return
		}
	}
}

func (r *rack) relative(path string) string {
	name, _ := filepath.Rel(r.work, path)
	return name
}

func TestFlips(t *testing.T) {
	r := newRack(t)
	r.torture(rounds(8, 100, 500), func() (string, bool) {
		path := r.pick()
		i, err := os.Stat(path)
		r.must(err)
		b, err := os.ReadFile(path)
		r.must(err)
		at := r.rand.IntN(len(b))
		b[at] ^= 1 << r.rand.IntN(8)
		r.must(os.Chmod(path, 0o600|i.Mode().Perm()))
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		r.must(err)
		_, err = f.WriteAt(b[at:at+1], int64(at))
		r.must(errors.Join(err, f.Close(), os.Chmod(path, i.Mode().Perm()), os.Chtimes(path, time.Time{}, i.ModTime())))
		return fmt.Sprintf("a bit of byte %d of %d of %s", at, len(b), r.relative(path)), true
	})
}

func TestTruncations(t *testing.T) {
	r := newRack(t)
	r.torture(rounds(4, 40, 200), func() (string, bool) {
		path := r.pick()
		i, err := os.Stat(path)
		r.must(err)
		to := r.rand.Int64N(i.Size())
		r.must(os.Truncate(path, to))
		return fmt.Sprintf("%s cut to %d of %d bytes", r.relative(path), to, i.Size()), true
	})
}

// What is removed with both lists of names takes the names with it: nobody could know them.
func TestRemovals(t *testing.T) {
	r := newRack(t)
	r.torture(rounds(6, 60, 300), func() (what string, names bool) {
		all, _ := r.files()
		remove := func(share float64) {
			for _, path := range all {
				if r.rand.Float64() < share {
					_ = os.Remove(path)
				}
			}
		}
		switch path := r.pick(); r.rand.IntN(5) {
		case 0:
			what = r.relative(path)
			r.must(os.Remove(path))
		case 1:
			what = "the folder " + r.relative(filepath.Dir(path))
			if filepath.Dir(path) == r.work {
				what = "all"
			}
			r.must(removeAll(filepath.Dir(path)))
		case 2:
			top, _, _ := strings.Cut(r.relative(path), "/")
			what = "all of " + top
			r.must(removeAll(filepath.Join(r.work, top)))
		case 3:
			what = "some files"
			remove(0.05)
		case 4:
			what = "half of the files"
			remove(0.5)
		}
		_, err := os.Stat(r.work + "/oci/index.json")
		_, err2 := os.Stat(r.work + "/names")
		// An image of which neither manifest nor config is left is no image any more, whoever knows its name.
		names = (err == nil || err2 == nil) && what != "half of the files"
		return what, names
	})
}

func TestKills(t *testing.T) {
	r := newRack(t)
	r.copyState(r.pristine, r.work)
	start := time.Now()
	r.run(r.work, append(r.build(contents[1]), "--no-cache")...)
	whole := time.Since(start)
	r.copyState(r.pristine, r.work)
	n := rounds(6, 100, 1000)
	for i := range n {
		if i%25 == 24 { // else there is nothing left to build
			r.copyState(r.pristine, r.work)
		}
		args := append(r.build(contents[r.rand.IntN(len(contents))]), "-o", "type=oci,dest="+r.work+".oci", "-o", "type=image")
		if r.rand.IntN(2) == 0 {
			args = append(args, "--no-cache")
		}
		cmd := r.command(r.work, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		r.must(cmd.Start())
		time.Sleep(time.Duration(r.rand.Int64N(int64(whole) + 1)))
		what := "the process"
		switch r.rand.IntN(3) {
		case 0:
			_ = cmd.Process.Kill()
		case 1:
			what = "the group"
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		case 2:
			what = "a child"
			kids, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
			if pids := strings.Fields(string(kids)); len(pids) > 0 {
				pid, _ := strconv.Atoi(pids[r.rand.IntN(len(pids))])
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		_ = cmd.Wait()
		r.check(fmt.Sprintf("kill %d, of %s", i, what), true)
		if i%50 == 49 {
			t.Logf("%d kills", i+1)
		}
		if t.Failed() {
			return
		}
	}
	// A while later the next build has swept what they left.
	old := time.Now().Add(-time.Hour)
	for _, dir := range []string{"tmp", "locks"} {
		entries, err := os.ReadDir(filepath.Join(r.work, dir))
		r.must(err)
		for _, e := range entries {
			_ = os.Chtimes(filepath.Join(r.work, dir, e.Name()), old, old)
		}
	}
	r.run(r.work, append(r.build(contents[0]), "--no-cache")...)
	left, err := os.ReadDir(r.work + "/tmp")
	r.must(err)
	for _, e := range left {
		if !strings.HasPrefix(e.Name(), "draft-") && !strings.HasPrefix(e.Name(), "damaged-") {
			t.Errorf("tmp/%s is left after %d kills", e.Name(), n)
		}
	}
}

// TestFullDisk builds in a state on a small file system, then gives it room.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	r := newRack(t)
	used := int64(0)
	all := func(dir string) (n int64) {
		_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if i, ierr := e.Info(); err == nil && ierr == nil {
				n += (i.Size() + 4095) &^ 4095
			}
			return nil
		})
		return n
	}
	used = all(r.pristine)
	r.must(os.Mkdir(r.work, 0o700))
	n := rounds(3, 12, 50)
	for i := range n {
		size := used/20 + used*int64(i)*12/10/int64(n)
		r.must(unix.Mount("tmpfs", r.work, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)))
		unmount := func() { _ = unix.Unmount(r.work, unix.MNT_DETACH) }
		func() {
			defer unmount()
			failed := ""
			for _, args := range [][]string{{"build", "-q", "-t", "base:1", r.base}, r.build(contents[0]), {"tag", "base:1", "keep:1"}} {
				if _, failed = r.try(r.work, args...); failed != "" {
					break
				}
			}
			if failed != "" && !strings.Contains(strings.ToLower(failed), "space") {
				t.Errorf("%d bytes: the message does not say that the disk is full: %s", size, failed)
			}
			r.must(unix.Mount("tmpfs", r.work, "tmpfs", unix.MS_REMOUNT, "size=1g"))
			r.run(r.work, "build", "-q", "-t", "base:1", r.base)
			r.run(r.work, "tag", "base:1", "keep:1")
			r.check(fmt.Sprintf("a disk of %d bytes", size), true)
		}()
		if t.Failed() {
			return
		}
	}
}
