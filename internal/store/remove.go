package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// RemoveAll is [os.RemoveAll] by several goroutines: Go's caches and a state of some 10 GB have some 100,000 files, and the kernel
// removes those of different folders side by side. It removes as much as it can, and returns all errors.
func RemoveAll(path string) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		slot = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	)
	for _, dir := range foldersBelow(path, removeDepth) {
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			if err := os.RemoveAll(dir); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return os.RemoveAll(path)
}

// removeDepth is how far down the folders lie that are worked on side by side: those of Go's build cache are data/00 to data/ff in a
// cache in a folder of what is removed.
const removeDepth = 4

// foldersBelow lists the folders that many levels below dir.
func foldersBelow(dir string, depth int) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case !e.IsDir():
		case depth == 1:
			list = append(list, path)
		default:
			list = append(list, foldersBelow(path, depth-1)...)
		}
	}
	return list
}

// treeSize sums what the files below dir take on the disk, as far as they can be seen. A file of several
// names counts once: BusyBox has 400.
func treeSize(dir string) int64 {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		n    int64
		seen = map[inode]bool{} // of those with several names
		slot = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	)
	var walk func(dir string)
	walk = func(dir string) {
		var sum int64
		var folders []string
		entries, _ := os.ReadDir(dir) // not readable, or gone meanwhile
		for _, e := range entries {
			if i, err := e.Info(); err == nil {
				if key, many := linked(i); many {
					mu.Lock()
					known := seen[key]
					seen[key] = true
					mu.Unlock()
					if known {
						continue
					}
				}
				sum += onDisk(i)
			}
			if e.IsDir() {
				folders = append(folders, filepath.Join(dir, e.Name()))
			}
		}
		mu.Lock()
		n += sum
		mu.Unlock()
		for _, f := range folders {
			select {
			case slot <- struct{}{}:
				wg.Go(func() {
					defer func() { <-slot }()
					walk(f)
				})
			default: // all are at work
				walk(f)
			}
		}
	}
	if i, err := os.Lstat(dir); err == nil {
		n = onDisk(i)
		if i.Mode()&fs.ModeType == fs.ModeDir {
			walk(dir)
		}
	}
	wg.Wait()
	return n
}
