package source

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
)

// gitServer serves the repositories below a folder by http, with git's own server program.
type gitServer struct {
	t   *testing.T
	dir string
	url string
}

func newGitServer(t *testing.T, wrap func(http.Handler) http.Handler) *gitServer {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("no git command on this machine")
	}
	s := &gitServer{t: t, dir: t.TempDir()}
	var h http.Handler = &cgi.Handler{Path: git, Args: []string{"http-backend"}, Dir: s.dir,
		Env: []string{"GIT_PROJECT_ROOT=" + s.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + s.dir}, Stderr: io.Discard}
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// repo makes a repository with an empty working tree.
func (s *gitServer) repo(name string) *gitRepo {
	s.t.Helper()
	r := &gitRepo{t: s.t, dir: filepath.Join(s.dir, name), url: s.url + "/" + name}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	r.git("init", "-q", "-b", "main")
	return r
}

type gitRepo struct {
	t        *testing.T
	dir, url string
}

func (r *gitRepo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", append([]string{"-c", "protocol.allow=always", "-c", "user.name=T", "-c", "user.email=t@example.com"}, args...)...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+r.t.TempDir(), "GIT_COMMITTER_DATE=2022-02-01T10:00:00Z", "GIT_AUTHOR_DATE=2022-02-01T10:00:00Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files, "name content", and returns the commit.
func (r *gitRepo) commit(files ...string) string {
	r.t.Helper()
	for _, f := range files {
		name, content, _ := strings.Cut(f, " ")
		p := filepath.Join(r.dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "change", "--allow-empty")
	return r.git("rev-parse", "HEAD")
}

func mustGit(t *testing.T, f *Fetcher, src Git) Result {
	t.Helper()
	res, err := f.Git(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestGitRefs(t *testing.T) {
	t.Parallel()
	s := newGitServer(t, nil)
	r := s.repo("r")
	first := r.commit("f one", "d/g two")
	r.git("tag", "light")
	r.git("tag", "-m", "signed", "heavy")
	second := r.commit("f three")
	r.git("branch", "dev/x")
	if err := os.Symlink("f", filepath.Join(r.dir, "l")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(r.dir, "d/g"), 0o755); err != nil {
		t.Fatal(err)
	}
	third := r.commit()
	const (
		firstTree  = "755 0:0 d/ \n644 0:0 d/g two\n644 0:0 f one\n"
		secondTree = "755 0:0 d/ \n644 0:0 d/g two\n644 0:0 f three\n"
		thirdTree  = "755 0:0 d/ \n755 0:0 d/g two\n644 0:0 f three\n777 0:0 l f\n"
	)
	f := fetcher(t)
	for n, c := range []struct {
		src  Git
		want string
	}{
		{Git{}, thirdTree},
		{Git{Ref: "main"}, thirdTree},
		{Git{Ref: "refs/heads/main"}, thirdTree},
		{Git{Ref: "light"}, firstTree},
		{Git{Ref: "heavy"}, firstTree},
		{Git{Ref: "refs/tags/heavy"}, firstTree},
		{Git{Ref: "tags/light"}, firstTree},
		{Git{Ref: "dev/x"}, secondTree},
		{Git{Ref: first}, firstTree},
		{Git{Ref: second, Checksum: second[:8]}, secondTree},
		{Git{Ref: "main", Checksum: third}, thirdTree},
		{Git{Ref: "heavy", Checksum: first}, firstTree},
		{Git{Ref: "heavy", Checksum: r.git("rev-parse", "heavy")}, firstTree},
		{Git{Ref: "whatever", Checksum: first, FetchByCommit: true}, firstTree},
		{Git{Subdir: "d"}, "755 0:0 g two\n"},
		{Git{Subdir: "/d/../d/", KeepGitDir: true}, "755 0:0 g two\n"},
	} {
		c.src.Remote = r.url
		f := f
		if n%3 == 0 { // without what is there of the ones before
			f = fetcher(t)
		}
		if got := show(t, mustGit(t, f, c.src)); got != c.want {
			t.Errorf("%+v:\ngot  %q\nwant %q", c.src, got, c.want)
		}
	}
	if a, b := mustGit(t, f, Git{Remote: r.url, Ref: "heavy"}), mustGit(t, f, Git{Remote: r.url, Ref: first}); a.Key != b.Key {
		t.Error("a tag and its commit have different keys")
	}
	if a, b := mustGit(t, f, Git{Remote: r.url}), mustGit(t, f, Git{Remote: r.url, Subdir: "d"}); a.Key == b.Key {
		t.Error("a part of the tree has the key of the whole")
	}
}

func TestGitErrors(t *testing.T) {
	t.Parallel()
	s := newGitServer(t, nil)
	r := s.repo("r")
	commit := r.commit("d/f x")
	if err := os.Symlink("d", filepath.Join(r.dir, "l")); err != nil {
		t.Fatal(err)
	}
	r.commit()
	other := strings.Repeat("12", 20)
	for _, c := range []struct {
		src  Git
		want string
	}{
		{Git{Ref: "nope"}, "no branch or tag nope"},
		{Git{Ref: "main", Checksum: "123456"}, "checksum 123456"},
		{Git{Ref: other}, "fetch " + other},
		{Git{Ref: "main", Checksum: other, FetchByCommit: true}, "fetch"},
		{Git{Ref: commit, Subdir: "nope"}, "no folder nope"},
		{Git{Subdir: "l"}, "no folder l"},
		{Git{Subdir: "d/f"}, "no folder d/f"},
		{Git{Remote: s.url + "/missing"}, "not found"},
		{Git{Remote: "http://127.0.0.1:1/r"}, "127.0.0.1:1"},
		{Git{Remote: "ext::sh -c id"}, "not allowed"},
		{Git{Remote: r.dir}, "not allowed"},
		{Git{Remote: "git@127.0.0.1:r", SSH: "default"}, "--ssh default"},
	} {
		if c.src.Remote == "" {
			c.src.Remote = r.url
		}
		f := fetcher(t)
		res, err := f.Git(t.Context(), c.src)
		if err == nil {
			_, err = res.Open(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.src.Remote) {
			t.Errorf("%+v: %v, want an error with %q and the remote", c.src, err, c.want)
		}
	}
	f := fetcher(t)
	f.GitCommand = "no-such-git"
	if _, err := f.Git(t.Context(), Git{Remote: r.url}); err == nil || !strings.Contains(err.Error(), "install git") {
		t.Errorf("without git: %v", err)
	}
}

// TestGitMovedBranch holds that what was settled is what comes out, though the branch moved meanwhile.
func TestGitMovedBranch(t *testing.T) {
	t.Parallel()
	s := newGitServer(t, nil)
	r := s.repo("r")
	r.commit("f one")
	f := fetcher(t)
	res := mustGit(t, f, Git{Remote: r.url, Ref: "main"})
	r.commit("f two")
	if got := show(t, res); got != "644 0:0 f one\n" {
		t.Errorf("got %q", got)
	}
	next := mustGit(t, f, Git{Remote: r.url, Ref: "main"})
	if got := show(t, next); got != "644 0:0 f two\n" || next.Key == res.Key {
		t.Errorf("got %q", got)
	}
	// History is rewritten, and a folder comes in the place of the branch.
	r.git("checkout", "-q", "--orphan", "new")
	r.git("branch", "-D", "main")
	r.commit("f three")
	r.git("branch", "-m", "main/x")
	if got := show(t, mustGit(t, f, Git{Remote: r.url, Ref: "main/x"})); got != "644 0:0 f three\n" {
		t.Errorf("got %q", got)
	}
}

func TestGitBrokenCache(t *testing.T) {
	t.Parallel()
	s := newGitServer(t, nil)
	r := s.repo("r")
	r.commit("f one")
	f := fetcher(t)
	show(t, mustGit(t, f, Git{Remote: r.url}))
	caches, err := filepath.Glob(filepath.Join(f.Store.Root(), "cache", "git-*"))
	if err != nil || len(caches) != 1 {
		t.Fatalf("caches %q, %v", caches, err)
	}
	if err := os.RemoveAll(filepath.Join(caches[0], "objects")); err != nil {
		t.Fatal(err)
	}
	r.commit("f two")
	if got := show(t, mustGit(t, f, Git{Remote: r.url})); got != "644 0:0 f two\n" {
		t.Errorf("got %q", got)
	}
}

func TestGitKeepDir(t *testing.T) {
	t.Parallel()
	s := newGitServer(t, nil)
	r := s.repo("r")
	r.commit("f one")
	commit := r.commit("f two")
	r.git("tag", "-m", "v1", "v1")
	for _, ref := range []string{"main", "v1", commit} {
		var digests []string
		for range 2 {
			res := mustGit(t, fetcher(t), Git{Remote: r.url, Ref: ref, KeepGitDir: true})
			dir, digest := extract(t, res)
			digests = append(digests, digest)
			out := &gitRepo{t: t, dir: dir}
			if got := out.git("status", "--porcelain"); got != "" {
				t.Errorf("%s: status says %q", ref, got)
			}
			if got := out.git("log", "--format=%H"); got != commit {
				t.Errorf("%s: log says %q", ref, got)
			}
			if got := out.git("remote", "get-url", "origin"); got != r.url {
				t.Errorf("%s: origin is %q", ref, got)
			}
			if ref == "v1" {
				if got := out.git("describe", "--tags"); got != "v1" {
					t.Errorf("describe says %q", got)
				}
			}
		}
		if digests[0] != digests[1] {
			t.Errorf("%s: two checkouts differ", ref)
		}
	}
}

// extract unpacks a result and returns the folder and a digest of the archive.
func extract(t *testing.T, res Result) (dir, digest string) {
	t.Helper()
	r, err := res.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir, h := t.TempDir(), sha256.New()
	for tr := tar.NewReader(io.TeeReader(r, h)); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			return dir, fmt.Sprintf("%x", h.Sum(nil))
		}
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(dir, hdr.Name)
		switch hdr.Typeflag {
		case tar.TypeDir:
			err = os.Mkdir(p, 0o755)
		case tar.TypeReg:
			var data []byte
			if data, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(p, data, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestGitSubmodules(t *testing.T) {
	t.Parallel()
	s := newGitServer(t, nil)
	inner := s.repo("inner")
	inner.commit("i deep")
	sub := s.repo("sub")
	sub.git("submodule", "add", "-q", inner.dir, "in")
	setSubmodule(sub, "in", "../inner")
	sub.commit("s middle")
	r := s.repo("r")
	r.git("submodule", "add", "-q", sub.dir, "m")
	setSubmodule(r, "m", s.url+"/sub")
	r.commit("f top")
	f := fetcher(t)
	got := show(t, mustGit(t, f, Git{Remote: r.url}))
	for _, want := range []string{"644 0:0 f top\n", "644 0:0 m/s middle\n", "644 0:0 m/in/i deep\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if got := show(t, mustGit(t, f, Git{Remote: r.url, SkipSubmodules: true})); strings.Contains(got, "middle") {
		t.Errorf("with submodules:\n%s", got)
	}
	// The same submodule moves elsewhere.
	if err := os.Rename(sub.dir, filepath.Join(s.dir, "moved")); err != nil {
		t.Fatal(err)
	}
	setSubmodule(r, "m", "../moved")
	r.commit("f two")
	if got := show(t, mustGit(t, f, Git{Remote: r.url})); !strings.Contains(got, "644 0:0 m/s middle\n") {
		t.Errorf("got\n%s", got)
	}
}

func setSubmodule(r *gitRepo, name, url string) {
	r.t.Helper()
	r.git("config", "-f", ".gitmodules", "submodule."+name+".url", url)
}

// TestGitHostile checks out repositories that try to reach this machine.
func TestGitHostile(t *testing.T) {
	t.Parallel()
	s := newGitServer(t, nil)
	secret := s.repo("secret")
	secret.commit("key private")
	mark := filepath.Join(t.TempDir(), "ran")
	for _, url := range []string{secret.dir, "file://" + secret.dir, "ext::sh -c touch% " + mark, "-u./x"} {
		r := s.repo(fmt.Sprintf("r%x", sha256.Sum256([]byte(url)))[:10])
		r.git("submodule", "add", "-q", secret.dir, "m")
		setSubmodule(r, "m", url)
		r.commit("f x")
		res := mustGit(t, fetcher(t), Git{Remote: r.url})
		if got, err := res.Open(t.Context()); err == nil {
			got.Close()
			t.Errorf("submodule %s: no error", url)
		}
	}
	// A filter and a hook have no configuration here.
	r := s.repo("filter")
	r.commit("f x", ".gitattributes f filter=evil", ".git-hooks/post-checkout touch "+mark)
	if got := show(t, mustGit(t, fetcher(t), Git{Remote: r.url})); !strings.Contains(got, "644 0:0 f x\n") {
		t.Errorf("got\n%s", got)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a program of the repository ran")
	}
}

// TestGitAttributes holds that a checkout is no git archive: export-ignore and export-subst mean nothing.
func TestGitAttributes(t *testing.T) {
	t.Parallel()
	s := newGitServer(t, nil)
	r := s.repo("r")
	r.commit("kept x", "subst $Format:%H$", ".gitattributes kept export-ignore\nsubst export-subst")
	got := show(t, mustGit(t, fetcher(t), Git{Remote: r.url}))
	if !strings.Contains(got, "kept x") || !strings.Contains(got, "subst $Format:%H$") {
		t.Errorf("got\n%s", got)
	}
}

func TestGitCredentials(t *testing.T) {
	t.Parallel()
	const want = "basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=" // x-access-token:t0ken
	s := newGitServer(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != want {
				w.Header().Set("WWW-Authenticate", "Basic")
				http.Error(w, "who are you", 401)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	r := s.repo("r")
	r.commit("f x")
	src, err := ParseGit(strings.TrimPrefix(r.url, "http://")+"#main", map[string]string{
		pb.AttrFullRemoteURL: r.url, pb.AttrAuthTokenSecret: "GIT_AUTH_TOKEN", pb.AttrAuthHeaderSecret: "GIT_AUTH_HEADER"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fetcher(t).Git(t.Context(), src); err == nil || !strings.Contains(err.Error(), "--secret id=GIT_AUTH_TOKEN") {
		t.Errorf("without a token: %v", err)
	}
	host := strings.TrimPrefix(s.url, "http://")
	for id, v := range map[string]string{"GIT_AUTH_TOKEN": "t0ken", "GIT_AUTH_TOKEN." + host: "t0ken", "GIT_AUTH_HEADER": want} {
		f := fetcher(t)
		f.Secrets = func(_ context.Context, asked string) ([]byte, error) {
			if asked == id {
				return []byte(v), nil
			}
			return nil, errors.New("no such secret")
		}
		if got := show(t, mustGit(t, f, src)); got != "644 0:0 f x\n" {
			t.Errorf("%s: got %q", id, got)
		}
		// Nothing of it stays on the disk.
		filepath.WalkDir(f.Store.Root(), func(p string, d os.DirEntry, err error) error {
			if data, err := os.ReadFile(p); err == nil && (strings.Contains(string(data), "t0ken") || strings.Contains(string(data), want)) {
				t.Errorf("%s: the token is in %s", id, p)
			}
			return nil
		})
	}
}

func TestGitHangEnds(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // takes connections, and never answers
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = fetcher(t).Git(ctx, Git{Remote: "http://" + l.Addr().String() + "/r", Ref: "main"})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Minute {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestParseGit(t *testing.T) {
	sha := strings.Repeat("a1", 20)
	for _, c := range []struct {
		identifier string
		attrs      map[string]string
		want       Git
	}{
		{"git://github.com/a/b.git#v1:sub/dir", map[string]string{pb.AttrFullRemoteURL: "https://github.com/a/b.git", pb.AttrKeepGitDir: "true"},
			Git{Remote: "https://github.com/a/b.git", Ref: "v1", Subdir: "sub/dir", KeepGitDir: true}},
		{"git://github.com/a/b", nil, Git{Remote: "https://github.com/a/b"}},
		{"git://h/a/b", map[string]string{pb.AttrFullRemoteURL: "git://h/a/b"}, Git{Remote: "git://h/a/b"}},
		{"git://h/a/b.git", map[string]string{pb.AttrFullRemoteURL: "git@h:a/b.git", pb.AttrMountSSHSock: "default", pb.AttrKnownSSHHosts: "h k"},
			Git{Remote: "git@h:a/b.git", SSH: "default", KnownHosts: "h k"}},
		{"git://h/a#main", map[string]string{pb.AttrGitChecksum: sha, pb.AttrGitFetchByCommit: "true", pb.AttrGitSkipSubmodules: "true"},
			Git{Remote: "https://h/a", Ref: "main", Checksum: sha, FetchByCommit: true, SkipSubmodules: true}},
	} {
		got, err := ParseGit(c.identifier, c.attrs)
		if err != nil || got != c.want {
			t.Errorf("%s %v:\ngot  %+v, %v\nwant %+v", c.identifier, c.attrs, got, err, c.want)
		}
	}
	for _, c := range []struct {
		identifier string
		attrs      map[string]string
	}{
		{"git://h/a#--upload-pack=x", nil},
		{"git://h/a", map[string]string{pb.AttrFullRemoteURL: "https://h/b"}},
		{"git://h/a", map[string]string{pb.AttrFullRemoteURL: "file:///etc"}},
		{"git://h/a", map[string]string{pb.AttrGitChecksum: "xyz"}},
		{"git://h/a#" + sha, map[string]string{pb.AttrGitChecksum: "ff"}},
		{"git://h/a#main", map[string]string{pb.AttrGitFetchByCommit: "true", pb.AttrGitChecksum: "abc"}},
		{"git://h/a", map[string]string{pb.AttrGitBundle: "x"}},
	} {
		if got, err := ParseGit(c.identifier, c.attrs); err == nil {
			t.Errorf("%s %v: no error, %+v", c.identifier, c.attrs, got)
		}
	}
}

func TestRedactText(t *testing.T) {
	got := redactText("fatal: unable to access 'https://me:pw@h/x/': no\nand http://tok@h")
	if regexp.MustCompile(`pw|tok`).MatchString(got) || !strings.Contains(got, "@h/x/") {
		t.Errorf("got %q", got)
	}
}
