package sandbox

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// SelfPath is where [Self] puts this program inside a step's root.
const SelfPath = "/usr/libexec/skiff"

// unusedCopies are removed from ROOT/bin after this time.
const unusedCopies = 7 * 24 * time.Hour

// Self returns the read-only bind mounts by which this very program runs inside a root at [SelfPath]: a copy of it,
// kept below bin in the state directory, and, where it is linked dynamically (`go run` with cgo), its loader and
// libraries at their own paths. It works in the child of an [Enter] with a Root.
func Self() ([]specs.Mount, error) { return selfMounts() }

var selfMounts = sync.OnceValues(func() ([]specs.Mount, error) {
	if self.Root == "" {
		return nil, errors.New("find own executable: no state directory is set")
	}
	copied, err := copySelf(filepath.Join(self.Root, "bin"))
	if err != nil {
		return nil, fmt.Errorf("copy own executable: %w", err)
	}
	libs, err := ownLibraries()
	if err != nil {
		return nil, fmt.Errorf("find own libraries: %w", err)
	}
	mounts := []specs.Mount{selfMount(copied, SelfPath)}
	for _, l := range libs {
		mounts = append(mounts, selfMount(l.source, l.dest))
	}
	return mounts, nil
})

func selfMount(source, dest string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "bind", Source: source, Options: []string{"bind", "ro", "nosuid", "nodev"}}
}

// copySelf keeps a copy of the executable in dir, named for what tells one build from another, and returns its path.
// The original may be a file that `go run` removes. Several processes may do this at once: the last rename wins,
// and the files are equal.
func copySelf(dir string) (string, error) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	defer exe.Close()
	st, err := exe.Stat()
	if err != nil {
		return "", err
	}
	sys := st.Sys().(*syscall.Stat_t)
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %d", sys.Dev, sys.Ino, st.Size(), st.ModTime().UnixNano()))
	path := filepath.Join(dir, "skiff-"+hex.EncodeToString(sum[:8]))
	if have, err := os.Stat(path); err == nil && have.Size() == st.Size() && soundCopy(exe, path, have) {
		now := time.Now()
		if now.Sub(have.ModTime()) > time.Hour {
			os.Chtimes(path, now, now) // it is in use; a failure only brings the copy's removal nearer
			sealCopy(path)
		}
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	removeUnused(dir)
	return path, writeCopy(exe, path)
}

// soundCopy reports whether the copy is what was copied: nothing has changed the file since it was sealed, or it is equal to the last
// byte, as in a state that was moved.
func soundCopy(exe *os.File, path string, have os.FileInfo) bool {
	if b, err := os.ReadFile(path + ".seal"); err == nil && string(b) == stampOf(have) {
		return true
	}
	copied, err := os.Open(path)
	if err != nil {
		return false
	}
	defer copied.Close()
	if !equal(io.NewSectionReader(exe, 0, have.Size()), copied) {
		return false
	}
	sealCopy(path)
	return true
}

// sealCopy notes what stat says of the copy. Without it the next process compares all of it.
func sealCopy(path string) {
	if i, err := os.Stat(path); err == nil {
		_ = os.WriteFile(path+".seal", []byte(stampOf(i)), 0o600)
	}
}

// stampOf is what changes when somebody writes to the file; ctime cannot be set back.
func stampOf(i os.FileInfo) string {
	sys := i.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d %d %d", i.Size(), sys.Mtim.Nano(), sys.Ctim.Nano())
}

func equal(a, b io.Reader) bool {
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, _ := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false
		}
		if err != nil {
			return err == io.EOF || err == io.ErrUnexpectedEOF
		}
	}
}

func writeCopy(exe *os.File, path string) error {
	// A process that is forked meanwhile would have the file open for writing until it execs, and the kernel runs no such file
	// (ETXTBSY): an init is started in advance, beside this.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	tmp, err := os.CreateTemp(filepath.Dir(path), "tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // no such file any more, when all went well
	if _, err := io.Copy(tmp, exe); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Chmod(0o755); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	sealCopy(path)
	return nil
}

// removeUnused takes away copies of older builds, and what a crash left. A step that runs one keeps it by its mount.
func removeUnused(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > unusedCopies {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

type library struct{ source, dest string }

// ownLibraries is empty for a static executable. Otherwise it is the loader and every mapped library; each by the
// name that the loader will look for it under, its soname, in the directory it was found in.
func ownLibraries() ([]library, error) {
	interp, err := interpreter("/proc/self/exe")
	if err != nil || interp == "" {
		return nil, err
	}
	source, err := filepath.EvalSymlinks(interp)
	if err != nil {
		return nil, err
	}
	libs := []library{{source, interp}}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{source: true}
	for line := range strings.Lines(string(maps)) {
		// address perms offset dev inode path (proc(5)); a path may hold blanks.
		fields := strings.SplitN(strings.TrimSpace(line), " ", 6)
		if len(fields) < 6 || !strings.Contains(fields[1], "x") {
			continue
		}
		path := strings.TrimSpace(fields[5])
		name, ok := soname(path)
		if seen[path] || !ok {
			continue
		}
		seen[path] = true
		libs = append(libs, library{path, filepath.Join(filepath.Dir(path), name)})
	}
	return libs, nil
}

func interpreter(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			return strings.TrimRight(string(b), "\x00"), err
		}
	}
	return "", nil
}

// soname of a shared library; false for anything else, such as the executable itself.
func soname(path string) (string, bool) {
	f, err := elf.Open(path)
	if err != nil {
		return "", false
	}
	defer f.Close()
	names, err := f.DynString(elf.DT_SONAME)
	return strings.Join(names, ""), err == nil && len(names) == 1
}
