package gocache

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// The go command keeps an index of the packages that it has read in its build cache (cmd/go/internal/modindex, Go 1.19 on).
// The action of such an entry is a digest of places: of a module, its folder in the module cache; of any other package, its
// folder with names, times and sizes of the files there. Two contexts, or two states of one, may agree in all of that and
// differ in content. What cannot differ is the toolchain and the modules; for those the actions are computed here as the go
// command does. Where it does otherwise, an index is made again, which costs a tenth of a second.

// indexVersions are those of modindex.indexVersion since Go 1.19, newest first.
var indexVersions = []string{"go index v2", "go index v1", "go index v0"}

// GorootIndexes adds the actions by which the go command of a release, as 1.26.8, keeps its index of the packages in its
// own toolchain, which lies at dir and is seen by it at goroot.
func GorootIndexes(add func(ActionID), release, dir, goroot string) error {
	// In the order of what is written: the version of the index, the place, the files.
	src := filepath.Join(dir, "src")
	return filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if d.Name() == "testdata" {
			return filepath.SkipDir
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return err
		}
		var files strings.Builder
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			// As time.Time prints itself where no time zone is set.
			fmt.Fprintf(&files, "file %v %v %v\n", e.Name(), info.ModTime().In(time.UTC), info.Size())
		}
		if files.Len() == 0 {
			return nil
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		at := path.Join(goroot, "src", filepath.ToSlash(rel))
		for _, version := range indexVersions {
			// The module of the standard library is found at src, that of the commands at src/cmd.
			for _, modroot := range []string{path.Join(goroot, "src"), path.Join(goroot, "src/cmd")} {
				h := sha256.New()
				fmt.Fprintf(h, "go%smodroot %s\npackage go%s %s %v\n%s", release, modroot, release, version, at, files.String())
				add(ActionID(h.Sum(nil)))
			}
		}
		return nil
	})
}

// ModuleIndexes adds the actions by which the go command of a release keeps its index of the modules that lie in a module
// cache, at dirs and seen by it at modcache.
func ModuleIndexes(add func(ActionID), release, modcache string, dirs ...string) error {
	for _, dir := range dirs {
		mods, err := extracted(dir)
		if err != nil {
			return err
		}
		for _, name := range mods {
			for _, version := range indexVersions {
				h := sha256.New()
				fmt.Fprintf(h, "go%smodule index go%s %s %v\n", release, release, version, path.Join(modcache, name))
				add(ActionID(h.Sum(nil)))
			}
		}
	}
	return nil
}

// extracted lists the folders of modules below a module cache, as example.com/!mod@v1.2.3.
func extracted(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // moved meanwhile
			}
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		switch {
		case !d.IsDir() || rel == ".":
			return nil
		case rel == "cache":
			return filepath.SkipDir
		case strings.Contains(d.Name(), "@"):
			names = append(names, filepath.ToSlash(rel))
			return filepath.SkipDir
		}
		return nil
	})
	return names, err
}
