//go:build linux

package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// listing of everything below root: names, types, sizes, times.
func listing(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, strings.TrimPrefix(p, root), info.Mode(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func imageRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"etc", "real"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/real", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../run/resolved/stub", filepath.Join(root, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	then := time.Unix(1e9, 0)
	for _, d := range []string{"etc", "real", ""} {
		if err := os.Chtimes(filepath.Join(root, d), then, then); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func targetMounts(t *testing.T) []specs.Mount {
	file := filepath.Join(t.TempDir(), "f")
	write(t, file, "x", 0o644)
	return []specs.Mount{
		{Destination: "/a/b/c", Type: "tmpfs"},
		{Destination: "/a/b/c/below", Type: "tmpfs"},
		{Destination: "/etc/hosts", Type: "bind", Source: file},
		{Destination: "/etc/resolv.conf", Type: "bind", Source: file},
		{Destination: "/link/cache", Type: "bind", Source: t.TempDir()},
	}
}

func TestTargetsLeaveNoTrace(t *testing.T) {
	root := imageRoot(t)
	before := listing(t, root)
	cleanup, err := EnsureTargets(root, targetMounts(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]bool{"a/b/c": true, "etc/hosts": false, "run/resolved/stub": false, "real/cache": true} {
		if st, err := os.Lstat(filepath.Join(root, name)); err != nil || st.IsDir() != dir {
			t.Errorf("%s: %v", name, err)
		}
	}
	if exists(filepath.Join(root, "a/b/c/below")) {
		t.Error("the mount point inside another mount was made below it")
	}
	if err := cleanup(); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, root); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}

func TestTargetsThatWereUsedStay(t *testing.T) {
	root := imageRoot(t)
	cleanup, err := EnsureTargets(root, targetMounts(t))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "a/b/kept"), "by the step", 0o644)
	write(t, filepath.Join(root, "etc/hosts"), "by the step", 0o644)
	if err := os.RemoveAll(filepath.Join(root, "real")); err != nil {
		t.Fatal(err)
	}
	if err := cleanup(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a/b/kept": true, "a/b/c": false, "etc/hosts": true, "run": false, "real": false} {
		if exists(filepath.Join(root, name)) != want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}
}

func TestTargetsStayInside(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	cleanup, err := EnsureTargets(root, []specs.Mount{
		{Destination: "/out/x", Type: "tmpfs"},
		{Destination: "../../../y", Type: "tmpfs"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(root, "y")) || !exists(filepath.Join(root, outside, "x")) {
		t.Error("not made inside")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("made outside: %v, %v", entries, err)
	}
	// The step turns a made directory into a link: the cleanup must not follow it.
	if err := os.WriteFile(filepath.Join(outside, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(root, outside)
	if err := os.RemoveAll(inside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, inside); err != nil {
		t.Fatal(err)
	}
	cleanup()
	if !exists(filepath.Join(outside, "x")) {
		t.Error("the cleanup removed a file outside")
	}
}

// A step with targets of its own leaves the root as it was, and runs in every mode.
func TestRunWithTargets(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		s := step(t, "hello")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/deep/down/cache", Type: "tmpfs", Source: "tmpfs"})
		before := listing(t, s.Root.Path)
		if _, err := runReq(t, c, runRequest{Spec: s, Targets: true, FakeIDs: c.Mode() == ModeOneID}); err != nil {
			t.Fatal(err)
		}
		if after := listing(t, s.Root.Path); after != before {
			t.Errorf("before:\n%safter:\n%s", before, after)
		}
	})
}
