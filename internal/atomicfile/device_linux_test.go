package atomicfile_test

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/atomicfile"
)

// TestWriteToWhatIsThere: devices and pipes are written to, and stay.
func TestWriteToWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	null := filepath.Join(dir, "null") // root could replace the machine's own
	if err := unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		null = "" // only root makes one
	}
	for _, name := range []string{os.DevNull, null} {
		if name == "" {
			continue
		}
		if err := atomicfile.Write(name, put("x")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if st, err := os.Lstat(name); err != nil || st.Mode()&os.ModeCharDevice == 0 {
			t.Fatalf("%s is no device any more: %v, %v", name, st, err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		text, _ := os.ReadFile(fifo)
		got <- string(text)
	}()
	if err := atomicfile.Write(fifo, put("through")); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "through" {
		t.Errorf("read %q", text)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// As a shell's >(command) gives it.
	err = atomicfile.Write("/proc/self/fd/"+strconv.Itoa(int(w.Fd())), put("by number"))
	w.Close()
	if text, rerr := io.ReadAll(r); err != nil || rerr != nil || string(text) != "by number" {
		t.Errorf("%q, %v, %v", text, err, rerr)
	}
}

// TestWriteUmask: a new file has what the umask leaves, and a link that waits under a temporary name leads nobody astray.
func TestWriteUmask(t *testing.T) {
	old := unix.Umask(0o027)
	defer unix.Umask(old)
	file := filepath.Join(t.TempDir(), "f")
	if err := atomicfile.Write(file, put("x")); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// TestWriteMounted: a file that is a mount of its own, as docker run -v FILE:FILE makes it, is written in its place.
func TestWriteMounted(t *testing.T) {
	dir := t.TempDir()
	outside, file := filepath.Join(dir, "outside"), filepath.Join(dir, "f")
	for _, name := range []string{outside, file} {
		if err := os.WriteFile(name, []byte("a longer text than the next"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(outside, file, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("this needs root, to mount: %v", err)
	}
	defer unix.Unmount(file, 0)
	if err := atomicfile.Write(file, put("new")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(outside); err != nil || string(text) != "new" {
		t.Errorf("%q, %v", text, err)
	}
}
