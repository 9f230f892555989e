package gotoolchain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/inode"
)

// MachineHas reports whether the go command of this machine that compiles with a release is the released one.
func (t *Toolchains) MachineHas(ctx context.Context, release string) bool {
	if runtime.GOOS != "linux" {
		return false
	}
	version := ModuleVersion(release, runtime.GOARCH)
	want, err := t.sum(ctx, version)
	if err != nil || want == "" {
		return false // not to be proved
	}
	if t.env().GOVERSION == "go"+release {
		return t.provedRoot(release, want)
	}
	// The go command switches to a toolchain that a go.mod asks for, which it proved when it came.
	zip := t.cachedZip(version)
	if zip == "" {
		return false
	}
	sum, err := os.ReadFile(strings.TrimSuffix(zip, "zip") + "ziphash")
	return err == nil && strings.TrimSpace(string(sum)) == want
}

// provedRecord remembers that a GOROOT was hashed.
type provedRecord struct {
	Files string `json:"files"` // a digest of what lstat says of the programs in it
	Sum   string `json:"sum"`   // h1
}

// provedRoot hashes the machine's GOROOT, unless its programs are those of the last time. The sources are in the keys
// of what is compiled from them.
func (t *Toolchains) provedRoot(release, want string) bool {
	root := t.env().GOROOT
	files, err := programs(root)
	if err != nil {
		return false
	}
	var rec provedRecord
	if t.state.Load(kindRoot, root, &rec) == nil && rec.Files == files {
		return rec.Sum == want
	}
	tc, err := treeToolchain(release, runtime.GOARCH, root)
	if err != nil {
		return false
	}
	if err := t.state.Save(kindRoot, root, provedRecord{Files: files, Sum: tc.sum}); err != nil {
		t.note("remember the checksum of " + root + ": " + err.Error())
	}
	return tc.sum == want
}

// programs is a digest of what lstat says of all that compiles, and of what that includes.
func programs(root string) (string, error) {
	list := []string{"VERSION", "bin/go"}
	for _, pattern := range []string{"pkg/tool/*/*", "pkg/include/*"} {
		found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			return "", err
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				return "", err
			}
			list = append(list, rel)
		}
	}
	slices.Sort(list)
	h := sha256.New()
	for _, name := range list {
		info, err := inode.Lstat(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d %o %d %d\n", name, info.Size, info.Mode, info.Mtime, info.Ino)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
