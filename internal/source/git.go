package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
)

// Git is a tree of a git repository.
type Git struct {
	Remote         string // URL that git takes: https, http, git, ssh or user@host:path
	Ref            string // branch, tag or commit; "": the default branch
	Checksum       string // commit, or tag object, that Ref must be; its first digits are enough
	Subdir         string // of the tree; "": all
	KeepGitDir     bool   // with .git; not with a Subdir
	SkipSubmodules bool
	FetchByCommit  bool // Checksum says what to fetch, Ref only how to call it

	TokenSecret, HeaderSecret string // ids of secrets: a token, or a whole Authorization header
	SSH                       string // id of the agent, for ssh
	KnownHosts                string // content of a known_hosts file, for ssh
}

var (
	hexadecimal = regexp.MustCompile(`^[a-fA-F0-9]+$`)
	headBranch  = regexp.MustCompile(`(?m)^ref: refs/heads/(\S+)\s+HEAD$`)
)

// ParseGit reads a source of LLB. The identifier is what follows "git://" there, with or without it.
func ParseGit(identifier string, attrs map[string]string) (Git, error) {
	src, err := parseGit(strings.TrimPrefix(identifier, "git://"), attrs)
	if err != nil {
		return src, fmt.Errorf("source git://%s: %w", redact(identifier), err)
	}
	return src, nil
}

func parseGit(identifier string, attrs map[string]string) (src Git, err error) {
	if !gitutil.IsGitTransport(identifier) {
		identifier = "https://" + identifier
	}
	u, err := gitutil.ParseURL(identifier)
	if err != nil {
		return src, err
	}
	src.Remote = u.Remote
	if u.Opts != nil {
		src.Ref, src.Subdir = u.Opts.Ref, u.Opts.Subdir
	}
	for name, v := range attrs {
		switch name {
		case pb.AttrFullRemoteURL:
			if src.Remote, err = fullRemote(u, v); err != nil {
				return src, err
			}
		case pb.AttrKeepGitDir:
			src.KeepGitDir = v == "true"
		case pb.AttrGitSkipSubmodules:
			src.SkipSubmodules = v == "true"
		case pb.AttrGitFetchByCommit:
			src.FetchByCommit = v == "true"
		case pb.AttrGitChecksum:
			src.Checksum = v
		case pb.AttrAuthTokenSecret:
			src.TokenSecret = v
		case pb.AttrAuthHeaderSecret:
			src.HeaderSecret = v
		case pb.AttrMountSSHSock:
			src.SSH = v
		case pb.AttrKnownSSHHosts:
			src.KnownHosts = v
		case pb.AttrGitBundle, pb.AttrGitCheckoutBundle, pb.AttrGitSignatureVerifyPubKey,
			pb.AttrGitSignatureVerifyRejectExpired, pb.AttrGitSignatureVerifyRequireSignedTag, pb.AttrGitSignatureVerifyIgnoreSignedTag:
			return src, fmt.Errorf("%s: not done here", name)
		}
	}
	return src, src.check()
}

// fullRemote is the URL that the identifier, which has no scheme of its own, stands for.
func fullRemote(id *gitutil.GitURL, full string) (string, error) {
	if !gitutil.IsGitTransport(full) {
		full = "https://" + full
	}
	u, err := gitutil.ParseURL(full)
	if err != nil {
		return "", fmt.Errorf("%s: %w", redact(full), err)
	}
	repository := func(u *gitutil.GitURL) string {
		return strings.ToLower(u.Host) + strings.TrimSuffix(path.Join("/", u.Path), ".git")
	}
	if repository(id) != repository(u) {
		return "", fmt.Errorf("%s is another repository", redact(full))
	}
	return u.Remote, nil
}

func (src Git) check() error {
	switch {
	case strings.HasPrefix(src.Ref, "-"), strings.HasPrefix(src.Remote, "-"):
		return fmt.Errorf("ref %q and remote %q must not begin with a dash", src.Ref, redact(src.Remote))
	case src.Checksum != "" && !hexadecimal.MatchString(src.Checksum):
		return fmt.Errorf("checksum %s: not the hexadecimal digits of a commit", src.Checksum)
	case gitutil.IsCommitSHA(src.Ref) && !strings.HasPrefix(src.Ref, src.Checksum):
		return fmt.Errorf("checksum %s: the ref is commit %s", src.Checksum, src.Ref)
	case src.FetchByCommit && !gitutil.IsCommitSHA(src.Checksum) && !gitutil.IsCommitSHA(src.Ref):
		return errors.New("fetch by commit: the checksum has to be a whole commit")
	}
	return nil
}

// target is what a ref means now.
type target struct {
	ref    string // its full name, refs/heads/… or refs/tags/…; for a commit the commit itself
	object string // commit or tag object
	commit string // that a tag object stands for; "": object, as far as is known
}

// pick is the commit, as far as it is known without the repository.
func (t target) pick() string {
	if t.commit != "" {
		return t.commit
	}
	return t.object
}

// Git settles which commit is meant: a ref that is none, nor has a checksum, is looked up at the remote.
func (f *Fetcher) Git(ctx context.Context, src Git) (Result, error) {
	res, err := f.git(ctx, src)
	if err != nil {
		return Result{}, fmt.Errorf("git repository %s: %w", redact(src.Remote), err)
	}
	return res, nil
}

func (f *Fetcher) git(ctx context.Context, src Git) (Result, error) {
	if path.Join("/", src.Subdir) != "/" {
		src.KeepGitDir = false
	}
	t, err := f.resolve(ctx, src)
	if err != nil {
		return Result{}, err
	}
	labels := []any{"commit", t.pick(), "subdir", path.Join("/", src.Subdir), "submodules", !src.SkipSubmodules}
	if src.KeepGitDir {
		labels = append(labels, "git", true, "ref", t.ref, "object", t.object, "remote", redact(src.Remote))
	}
	return Result{Key: keyOf("git", labels...), Pin: t.object, Open: func(ctx context.Context) (io.ReadCloser, error) {
		r, err := f.checkout(ctx, src, t)
		if err != nil {
			return nil, fmt.Errorf("git repository %s: %w", redact(src.Remote), err)
		}
		return r, nil
	}}, nil
}

// resolve finds out what the ref means, at the remote if need be.
func (f *Fetcher) resolve(ctx context.Context, src Git) (target, error) {
	if gitutil.IsCommitSHA(src.Ref) {
		return target{ref: src.Ref, object: src.Ref}, nil
	}
	if src.FetchByCommit {
		t := target{ref: src.Ref, object: src.Checksum}
		switch {
		case t.ref == "":
			t.ref = t.object
		case !strings.HasPrefix(t.ref, "refs/"):
			t.ref = "refs/heads/" + t.ref
		}
		return t, nil
	}
	g, err := f.newGit(ctx, src)
	if err != nil {
		return target{}, err
	}
	defer g.close()
	ref := src.Ref
	if ref == "" {
		if ref, err = g.defaultBranch(ctx, src.Remote); err != nil {
			return target{}, err
		}
	}
	out, err := g.run(ctx, "ls-remote", "--", src.Remote, ref, ref+"^{}")
	if err != nil {
		return target{}, fmt.Errorf("look up ref %s: %w", ref, err)
	}
	t, err := pickRef(out, ref)
	if err != nil {
		return t, err
	}
	if !strings.HasPrefix(t.object, src.Checksum) && (t.commit == "" || !strings.HasPrefix(t.commit, src.Checksum)) {
		return t, fmt.Errorf("the checksum %s is asked for, but %s is %s", src.Checksum, t.ref, t.pick())
	}
	return t, nil
}

func (g *gitCommand) defaultBranch(ctx context.Context, remote string) (string, error) {
	out, err := g.run(ctx, "ls-remote", "--symref", "--", remote, "HEAD")
	if err != nil {
		return "", fmt.Errorf("look up the default branch: %w", err)
	}
	m := headBranch.FindStringSubmatch(out)
	if m == nil || strings.HasPrefix(m[1], "-") {
		return "", errors.New("it has no default branch: name one (#BRANCH)")
	}
	return m[1], nil
}

// pickRef chooses among the refs that ls-remote tells of for a name: the very one, else a branch, else a tag,
// as git checkout does.
func pickRef(lsRemote, ref string) (target, error) {
	found := map[string]string{}
	for line := range strings.Lines(lsRemote) {
		if object, name, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok && gitutil.IsCommitSHA(object) {
			found[name] = object
		}
	}
	tag := "refs/tags/" + strings.TrimPrefix(ref, "refs/tags/")
	for _, name := range []string{"refs/" + strings.TrimPrefix(ref, "refs/"), "refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"), tag} {
		object := found[name]
		if object == "" {
			continue
		}
		t := target{ref: name, object: object}
		if name == tag {
			t.commit = found[tag+"^{}"]
		}
		return t, nil
	}
	return target{}, fmt.Errorf("it has no branch or tag %s", ref)
}

// authorization is the header for the remote's host, from the build's secrets; "" when there is none.
func (f *Fetcher) authorization(ctx context.Context, src Git) string {
	u, err := url.Parse(src.Remote)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	for _, suffix := range []string{"." + u.Host, ""} {
		if src.HeaderSecret != "" {
			if v := f.secret(ctx, src.HeaderSecret+suffix); v != "" {
				return v
			}
		}
		if src.TokenSecret != "" {
			if v := f.secret(ctx, src.TokenSecret+suffix); v != "" {
				return basicAuth("x-access-token", v)
			}
		}
	}
	return ""
}
