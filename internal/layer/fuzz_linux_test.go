package layer

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
)

// FuzzUnpack unpacks arbitrary bytes.
func FuzzUnpack(f *testing.F) {
	for _, c := range unpackCases {
		f.Add(makeTar(f, c.entries...))
	}
	lower := makeLower(f)
	f.Fuzz(func(t *testing.T, data []byte) { unpackSafely(t, lower, data) })
}

// FuzzEntries unpacks arbitrary entries of sound tars, in the form of [entry], a line each.
func FuzzEntries(f *testing.F) {
	for _, c := range unpackCases {
		f.Add(strings.Join(c.entries, "\n"))
	}
	lower := makeLower(f)
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Split(text, "\n")
		if slices.ContainsFunc(lines, func(l string) bool { return !strings.Contains(l, " ") }) {
			return
		}
		if data, err := tryTar(lines); err == nil {
			unpackSafely(t, lower, data)
		}
	})
}

// unpackSafely fails when unpacking touches anything outside of its directory.
func unpackSafely(t *testing.T, lower inode.Tree, data []byte) {
	top := t.TempDir()
	dir, secret := filepath.Join(top, "layer"), filepath.Join(top, "secret")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	before, err := os.Lstat(secret)
	must(t, err)

	o := UnpackOptions{Lower: lower, MaxBytes: 1 << 20, MaxEntries: 1000}
	_, err = Unpack(context.Background(), bytes.NewReader(data), dir, o)
	if i, err := os.Lstat(dir); err != nil || !i.IsDir() {
		t.Fatalf("the directory itself: %v, %v", i, err)
	}
	os.Chmod(dir, 0o700)
	if err == nil && os.Geteuid() == 0 {
		// What was unpacked can be packed, but for names that would mean something else then.
		_, err := Pack(context.Background(), io.Discard, dir, PackOptions{})
		if err != nil && !strings.Contains(err.Error(), "cannot hold a file of this name") {
			t.Error(err)
		}
	}

	entries, err := os.ReadDir(top)
	must(t, err)
	after, err := os.Lstat(secret)
	must(t, err)
	if len(entries) != 2 || !after.ModTime().Equal(before.ModTime()) || after.Mode() != before.Mode() ||
		after.Size() != before.Size() || after.Sys().(*syscall.Stat_t).Nlink != 1 {
		t.Fatalf("touched outside: %v %v", entries, after)
	}
	if i, err := lower.Lstat("etc/conf/a"); err != nil || i.Nlink != 1 || i.Size != 1 {
		t.Fatalf("touched lower: %+v, %v", i, err)
	}
}
