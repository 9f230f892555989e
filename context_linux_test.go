package skiff_test

import (
	"archive/tar"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestContextOfAnyKind builds with a context that has all that a folder can hold, and sees in the image what it says: a name keeps its
// bytes, a link its target, wherever that leads; a socket is an empty file; and nothing is opened that would block.
func TestContextOfAnyKind(t *testing.T) {
	skifftest.Long(t, "it compiles a program")
	c := newCLI(t)
	outside := filepath.Join(skifftest.Files(t, "secret", "not for the image"), "secret")
	files := []string{"inside", "inside", "many/", "", "Dockerfile", "FROM scratch\nCOPY . /all\nCOPY not* /one/\n"}
	want := []string{"all/", "all/Dockerfile", "all/inside", "all/many/", "all/out -> " + outside, "all/pipe |", "all/socket", "all/up -> ../../..", "one/"}
	// File systems that refuse such a name exist elsewhere only: Linux's own take all bytes but the slash and zero.
	for _, name := range []string{"latin\xe9", "not\xff\xfeutf8", "line\nbreak", "back\\slash", " blank ", "-rf", "é", strings.Repeat("n", 255)} {
		files, want = append(files, name, name), append(want, "all/"+name)
	}
	want = append(want, "one/not\xff\xfeutf8")
	for i := range 10_000 {
		name := fmt.Sprintf("many/%05d", i)
		files, want = append(files, name, ""), append(want, "all/"+name)
	}
	dir := skifftest.Files(t, files...)
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, err := range []error{os.Symlink(outside, filepath.Join(dir, "out")), os.Symlink("../../..", filepath.Join(dir, "up")),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "out.tar")
	c.run("build", "-o", "type=tar,dest="+file, dir)
	slices.Sort(want)
	if got := tarNames(t, file); !slices.Equal(got, want) {
		t.Errorf("in the image are %d files, not %d:\n%s", len(got), len(want), difference(got, want))
	}

	// A link is followed within the context alone, in a copy of the file that it names.
	dockerfile := filepath.Join(skifftest.Files(t, "Dockerfile", "FROM scratch\nCOPY out /\n"), "Dockerfile")
	if out, code := c.try("build", "-f", dockerfile, dir); code == 0 || !strings.Contains(out, "Dockerfile:2") || strings.Contains(out, "not for the image") {
		t.Errorf("COPY of a link that leads out of the context: exit code %d\n%s", code, out)
	}
}

// tarNames are the sorted names of a tar: a directory's with a slash, a link's with its target, a FIFO's with a bar.
func tarNames(t *testing.T, file string) (names []string) {
	t.Helper()
	for _, h := range tarHeaders(t, file) {
		name := h.Name
		switch h.Typeflag {
		case tar.TypeSymlink:
			name += " -> " + h.Linkname
		case tar.TypeFifo:
			name += " |"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// difference is what one list has and the other has not.
func difference(got, want []string) string {
	var lines strings.Builder
	for _, name := range got {
		if !slices.Contains(want, name) {
			fmt.Fprintf(&lines, "more: %q\n", name)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			fmt.Fprintf(&lines, "missing: %q\n", name)
		}
	}
	return lines.String()
}
