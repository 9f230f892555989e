package sandbox

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Trace takes down which paths the processes of a step name to the kernel, in whatever call: files that they open, files that
// they ask about and that are not there, names that they make or remove. What a step can learn from its files it learns from these.
// The zero value is empty. Safe for concurrent use.
type Trace struct {
	mu    sync.Mutex
	began bool
	paths map[string]bool // absolute, as they were named; the value says whether it was opened
	err   error           // the first thing for which the paths are not all of them
}

// Paths are the paths that were named, sorted, and whether each was opened: of a directory, then, its names may have been read. A path
// is as the step named it, links and ".." in it. The error says why there may be others.
func (t *Trace) Paths() (paths []string, opened map[string]bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil && !t.began {
		t.err = errors.New("no call was seen")
	}
	return slices.Sorted(maps.Keys(t.paths)), t.paths, t.err
}

// add takes down a path. at is the directory that one which is not absolute begins at.
func (t *Trace) add(path []byte, opened bool, at func() (string, error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began = true
	if len(path) > 0 && path[0] == '/' {
		if was, known := t.paths[string(path)]; known && (was || !opened) {
			return // no copy is made for the many that are named again and again
		}
		t.put(string(path), opened)
		return
	}
	dir, err := at()
	if err != nil {
		t.failed(err)
		return
	}
	if !strings.HasPrefix(dir, "/") { // a pipe, or what the kernel says of a directory that is gone
		t.failed(errors.New("a call that begins at " + dir))
		return
	}
	t.put(strings.TrimSuffix(dir, "/")+"/"+string(path), opened)
}

func (t *Trace) put(path string, opened bool) {
	if t.paths == nil {
		t.paths = map[string]bool{}
	}
	t.paths[path] = t.paths[path] || opened
}

func (t *Trace) failed(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *Trace) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed(err)
}
