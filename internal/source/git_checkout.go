package source

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/util/gitutil"
)

// checkout fetches a commit, checks it out in a temporary folder and gives the files as a tar archive.
func (f *Fetcher) checkout(ctx context.Context, src Git, t target) (_ io.ReadCloser, err error) {
	g, err := f.newGit(ctx, src)
	if err != nil {
		return nil, err
	}
	defer g.close()
	dir, release, err := f.Store.TempDir("checkout")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	c, err := f.fetch(ctx, g, src, t)
	if err != nil {
		return nil, err
	}
	defer c.unlock()
	w := &worktree{gitCommand: g, dir: filepath.Join(dir, "tree"), git: filepath.Join(dir, "git"), cache: c}
	if src.KeepGitDir {
		w.git = filepath.Join(w.dir, ".git")
	}
	if err := w.make(ctx, src, t); err != nil {
		return nil, err
	}
	top, err := w.subdir(src.Subdir)
	if err != nil {
		return nil, err
	}
	mtime, err := w.commitTime(ctx)
	if err != nil {
		return nil, err
	}
	return tarStream(func(tw *tar.Writer) error { return writeTree(tw, top, mtime) }, func() error { release(); return nil }), nil
}

// gitCache is a bare repository below ROOT/cache with what was fetched of a remote. It is locked.
type gitCache struct {
	dir    string
	commit string // that was fetched
	unlock func()
}

// fetch brings the target into the cache of its remote. A cache that fails is thrown away and made anew: what
// a killed git left, or branches that have become folders, can be anything.
func (f *Fetcher) fetch(ctx context.Context, g *gitCommand, src Git, t target) (*gitCache, error) {
	sum := sha256.Sum256([]byte(src.Remote))
	name := "git-" + hex.EncodeToString(sum[:16])
	unlock, err := f.Store.Lock(ctx, "cache "+name)
	if err != nil {
		return nil, err
	}
	c := &gitCache{dir: filepath.Join(f.Store.Root(), "cache", name), unlock: unlock}
	_, statErr := os.Stat(c.dir)
	err = c.fetch(ctx, g, src, t)
	if err != nil && statErr == nil && ctx.Err() == nil {
		if err = os.RemoveAll(c.dir); err == nil {
			err = c.fetch(ctx, g, src, t)
		}
	}
	if err == nil {
		err = c.verify(src, t)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	now := time.Now()
	os.Chtimes(c.dir, now, now) // Trim drops caches by the time of their last use
	return c, nil
}

func (c *gitCache) fetch(ctx context.Context, g *gitCommand, src Git, t target) error {
	if _, err := os.Stat(filepath.Join(c.dir, "HEAD")); err != nil {
		if _, err := g.run(ctx, initArgs(t, "--bare", c.dir)...); err != nil {
			return err
		}
	}
	git := func(args ...string) (string, error) {
		return g.run(ctx, append([]string{"--git-dir", c.dir}, args...)...)
	}
	have := func() bool {
		out, err := git("rev-parse", "--verify", "--quiet", t.object+"^{commit}")
		c.commit = strings.TrimSpace(out)
		return err == nil
	}
	if have() {
		return nil
	}
	for _, stale := range []string{"shallow.lock", "index.lock", "packed-refs.lock"} {
		os.Remove(filepath.Join(c.dir, stale))
	}
	// Least first: the ref, the object by itself, which not every server gives, and all that there is.
	attempts := [][]string{
		{"--depth=1", "--no-tags", "--force", "--", src.Remote, t.ref + ":refs/skiff/" + strings.TrimPrefix(t.ref, "refs/")},
		{"--depth=1", "--no-tags", "--", src.Remote, t.object},
		{"--tags", "--force", "--", src.Remote, "+refs/*:refs/remote/*"},
	}
	if gitutil.IsCommitSHA(t.ref) || src.FetchByCommit {
		attempts = attempts[1:]
	}
	if _, err := os.Stat(filepath.Join(c.dir, "shallow")); err == nil {
		last := &attempts[len(attempts)-1]
		*last = append([]string{"--unshallow"}, *last...)
	}
	var first error
	for _, args := range attempts {
		_, err := git(append([]string{"fetch", "--quiet"}, args...)...)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if have() {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return fmt.Errorf("fetch %s: %w", t.ref, first)
	}
	return fmt.Errorf("fetch %s: there is no commit %s any more", t.ref, t.object)
}

// initArgs are the arguments for a repository with the kind of hash that the target has.
func initArgs(t target, args ...string) []string {
	init := []string{"init", "--quiet"}
	if len(t.object) == sha256.Size*2 {
		init = append(init, "--object-format=sha256") // unknown to git before 2.29
	}
	return append(init, args...)
}

// verify holds the checksum against what was fetched.
func (c *gitCache) verify(src Git, t target) error {
	if t.commit != "" && c.commit != t.commit {
		return fmt.Errorf("tag %s is %s, not %s", t.ref, c.commit, t.commit)
	}
	if !strings.HasPrefix(t.object, src.Checksum) && !strings.HasPrefix(c.commit, src.Checksum) {
		return fmt.Errorf("the checksum %s is asked for, but %s is %s", src.Checksum, t.ref, c.commit)
	}
	return nil
}

// worktree is a checkout with a git folder of its own, so that what one leaves behind (the URLs of submodules)
// does not reach the next.
type worktree struct {
	*gitCommand
	dir, git string
	cache    *gitCache
}

func (w *worktree) in(args ...string) []string {
	return append([]string{"-C", w.dir, "--git-dir", w.git, "--work-tree", w.dir}, args...)
}

func (w *worktree) make(ctx context.Context, src Git, t target) error {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return err
	}
	if _, err := w.run(ctx, w.in(initArgs(t)...)...); err != nil {
		return err
	}
	// Submodules with relative URLs start there.
	if _, err := w.run(ctx, w.in("remote", "add", "origin", src.Remote)...); err != nil {
		return err
	}
	var err error
	if src.KeepGitDir {
		err = w.fetchFromCache(ctx, t)
	} else {
		err = w.borrow()
	}
	if err != nil {
		return err
	}
	if _, err := w.run(ctx, w.in("checkout", "--quiet", "--detach", w.cache.commit)...); err != nil {
		return fmt.Errorf("check out %s: %w", w.cache.commit, err)
	}
	if !src.SkipSubmodules {
		if err := w.submodules(ctx); err != nil {
			return err
		}
	}
	if src.KeepGitDir {
		return w.tidy(ctx, src)
	}
	return nil
}

// borrow reads the objects where the cache has them.
func (w *worktree) borrow() error {
	info := filepath.Join(w.git, "objects", "info")
	if err := os.MkdirAll(info, 0o755); err != nil {
		return err
	}
	if b, err := os.ReadFile(filepath.Join(w.cache.dir, "shallow")); err == nil {
		if err := os.WriteFile(filepath.Join(w.git, "shallow"), b, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(info, "alternates"), []byte(filepath.Join(w.cache.dir, "objects")+"\n"), 0o644)
}

// fetchFromCache copies the commit, without its history, and gives it the name that it has at the remote.
func (w *worktree) fetchFromCache(ctx context.Context, t target) error {
	ref := "refs/skiff/keep"
	if _, err := w.run(ctx, "--git-dir", w.cache.dir, "update-ref", ref, t.object); err != nil {
		return err
	}
	spec := ref
	if strings.HasPrefix(t.ref, "refs/") {
		spec += ":" + t.ref
	}
	_, err := w.runLocal(ctx, w.in("fetch", "--quiet", "--update-head-ok", "--no-tags", "--depth=1", "--", "file://"+w.cache.dir, spec)...)
	return err
}

func (w *worktree) submodules(ctx context.Context) error {
	if _, err := os.Lstat(filepath.Join(w.dir, ".gitmodules")); err != nil {
		return nil
	}
	args := []string{"submodule", "--quiet", "update", "--init", "--recursive"}
	_, err := w.run(ctx, w.in(append(args, "--depth=1")...)...)
	if err != nil && ctx.Err() == nil {
		_, err = w.run(ctx, w.in(args...)...) // a server that gives no single commits
	}
	if err != nil {
		return fmt.Errorf("submodules: %w", err)
	}
	return nil
}

// tidy takes out of .git what differs from one checkout to the next, and passwords.
func (w *worktree) tidy(ctx context.Context, src Git) error {
	if _, err := w.run(ctx, w.in("remote", "set-url", "origin", redact(src.Remote))...); err != nil {
		return err
	}
	// An index without the times and inodes of files: git looks at those again.
	if err := os.Remove(filepath.Join(w.git, "index")); err != nil {
		return err
	}
	if _, err := w.run(ctx, w.in("read-tree", "HEAD")...); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(w.git, "logs")), os.RemoveAll(filepath.Join(w.git, "FETCH_HEAD")))
}

// subdir returns the folder below the worktree that the source asks for. No part of it may be a link.
func (w *worktree) subdir(sub string) (string, error) {
	at := w.dir
	for part := range strings.SplitSeq(strings.Trim(path.Join("/", sub), "/"), "/") {
		at = filepath.Join(at, part)
		if fi, err := os.Lstat(at); err != nil || !fi.IsDir() {
			return "", fmt.Errorf("it has no folder %s", sub)
		}
	}
	return at, nil
}

func (w *worktree) commitTime(ctx context.Context) (time.Time, error) {
	out, err := w.run(ctx, w.in("show", "--no-patch", "--format=%ct", "HEAD")...)
	if err != nil {
		return time.Time{}, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	return time.Unix(n, 0), err
}
