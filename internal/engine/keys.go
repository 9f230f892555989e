package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/store"
	"google.golang.org/protobuf/proto"
)

// A key is the sha256 of labelled lines, one for each thing that can change the result. What BuildKit leaves out of its
// keys (CacheMap in solver/llbsolver/ops) is left out here: proxies, the addresses of extra hosts, ids of cache mounts,
// what a secret holds. Whoever makes an operation read something new adds a line here.
type keyer struct{ h hash.Hash }

func newKey(kind, salt string) *keyer {
	k := &keyer{sha256.New()}
	k.line("key", kind)
	k.line("salt", salt)
	return k
}

func (k *keyer) line(label string, values ...any) {
	fmt.Fprint(k.h, label)
	for _, v := range values {
		switch v := v.(type) {
		case []byte:
			fmt.Fprintf(k.h, " %q", v)
		default:
			fmt.Fprintf(k.h, " %q", fmt.Sprint(v))
		}
	}
	fmt.Fprintln(k.h)
}

func (k *keyer) sum() store.Key { return store.Key(k.h.Sum(nil)) }

// hashLines is a key of a few words.
func hashLines(kind string, words ...string) store.Key {
	k := newKey(kind, "")
	for _, w := range words {
		k.line("word", w)
	}
	return k.sum()
}

// use says how an operation reads one of its inputs.
type use struct {
	whole     bool              // all of it, with names and owners and what lies below
	selectors []fileop.Selector // else: these files of it
}

// inputUses returns how the operation reads each of its inputs.
func inputUses(v *graph.Vertex) []use {
	uses := make([]use, len(v.Inputs))
	switch o := v.Op.Op.(type) {
	case *pb.Op_Exec:
		for _, m := range o.Exec.Mounts {
			useOfMount(uses, m)
		}
	case *pb.Op_File:
		for _, a := range o.File.Actions {
			useOfAction(uses, a)
		}
	default:
		for i := range uses {
			uses[i].whole = true
		}
	}
	return uses
}

// useOfMount: a mount that cannot become part of a result counts by content, the root by what it is (getMountDeps in
// solver/llbsolver/ops/exec.go).
func useOfMount(uses []use, m *pb.Mount) {
	if m.Input < 0 || m.MountType != pb.MountType_BIND && m.MountType != pb.MountType_CACHE {
		return
	}
	u := &uses[m.Input]
	if m.Dest == pb.RootMount || m.ContentCache == pb.MountContentCache_OFF || graph.Output(m) >= 0 && !m.Readonly {
		u.whole = true
		return
	}
	u.selectors = append(u.selectors, mountSelector(m))
}

func mountSelector(m *pb.Mount) fileop.Selector {
	return fileop.Selector{Path: path.Join("/", m.Selector), FollowLinks: true}
}

func useOfAction(uses []use, a *pb.FileAction) {
	if a.Input >= 0 && int(a.Input) < len(uses) {
		uses[a.Input].whole = true
	}
	if c := a.GetCopy(); c != nil && a.SecondaryInput >= 0 && int(a.SecondaryInput) < len(uses) {
		u := &uses[a.SecondaryInput]
		u.selectors = append(u.selectors, fileop.CopySelector(c))
	}
	owner := graph.Owner(a)
	for file, o := range map[string]*pb.UserOpt{"/etc/passwd": owner.GetUser(), "/etc/group": owner.GetGroup()} {
		if n := o.GetByName(); n != nil && n.Input >= 0 && int(n.Input) < len(uses) {
			u := &uses[n.Input]
			u.selectors = append(u.selectors, fileop.Selector{Path: file, FollowLinks: true})
		}
	}
	for i := range uses {
		slices.SortStableFunc(uses[i].selectors, func(a, b fileop.Selector) int { return strings.Compare(a.Path, b.Path) })
	}
}

// opKey starts the key of an operation: all of it but its inputs. With content, sources of copies are named by their
// last component alone, as the inputs will count by content.
func (n *node) opKey(ctx context.Context, kind string, content bool) (*keyer, error) {
	salt, err := n.e.salt(ctx)
	if err != nil {
		return nil, err
	}
	k := newKey(kind, salt)
	switch o := n.v.Op.Op.(type) {
	case *pb.Op_Exec:
		p := n.e.platformOf(n.v.Op.Platform)
		k.line("platform", p.OS, p.Architecture, p.Variant)
		return k, k.exec(n.e, o.Exec)
	case *pb.Op_File:
		return k, k.file(n, o.File, content)
	}
	return nil, fmt.Errorf("%s operations are not served by this engine", n.v.Kind())
}

func (k *keyer) exec(e *Engine, o *pb.ExecOp) error {
	k.line("exec", anys(o.Meta.Args)...)
	k.line("env", anys(o.Meta.Env)...)
	k.line("cwd", o.Meta.Cwd)
	k.line("user", o.Meta.User)
	k.line("hostname", o.Meta.Hostname)
	k.line("network", e.network(o.Network))
	k.line("security", o.Security)
	for _, h := range slices.Concat(e.o.AddHosts, o.Meta.ExtraHosts) {
		k.line("host", h.Host)
	}
	for _, u := range e.ulimits(o) {
		k.line("ulimit", u.Name, u.Soft, u.Hard)
	}
	if e.o.ShmSize > 0 {
		k.line("shm", e.o.ShmSize)
	}
	for _, c := range o.Meta.ValidExitCodes {
		k.line("exit", c)
	}
	for _, s := range o.Secretenv {
		k.line("secretenv", s.Name, s.ID, s.Optional)
	}
	for _, m := range o.Mounts {
		k.mount(m)
	}
	return nil
}

func (k *keyer) mount(m *pb.Mount) {
	k.line("mount", m.Dest, m.MountType, m.Input, graph.Output(m), m.Readonly)
	switch m.MountType {
	case pb.MountType_TMPFS:
		k.line("tmpfs", m.TmpfsOpt.GetSize())
	case pb.MountType_CACHE:
		// Ids do not count, but of skiff's own for Go's caches: goaware puts into them when a prune took modules away
		// that earlier steps had left there. What follows a plus is whose overlay it is.
		if id := m.CacheOpt.GetID(); strings.HasPrefix(id, goCachePrefix) {
			id, _, _ = strings.Cut(id, "+")
			k.line("gocache", id)
		}
	case pb.MountType_SECRET:
		s := m.SecretOpt
		k.line("secret", s.GetID(), s.GetUid(), s.GetGid(), s.GetMode(), s.GetOptional())
	case pb.MountType_SSH:
		s := m.SSHOpt
		k.line("ssh", s.GetID(), s.GetUid(), s.GetGid(), s.GetMode(), s.GetOptional())
	}
}

func (k *keyer) file(n *node, o *pb.FileOp, content bool) error {
	uses := inputUses(n.v)
	for _, a := range o.Actions {
		if c := a.GetCopy(); c != nil && content && a.SecondaryInput >= 0 && int(a.SecondaryInput) < len(uses) && !uses[a.SecondaryInput].whole {
			a = a.CloneVT()
			a.GetCopy().Src = path.Base(c.Src)
		}
		dt, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
		if err != nil {
			return fmt.Errorf("file operation: %w", err)
		}
		k.line("action", dt)
	}
	return nil
}

func anys(ss []string) []any {
	out := make([]any, len(ss))
	for i, s := range ss {
		out[i] = s
	}
	return out
}

// checkSources finds files that a copy is to take of a local source and that are not there. It is part of the key, since the keys of
// all operations are made before the first of them runs: nobody waits for a compiler to hear of a typing error below it.
func (n *node) checkSources(ctx context.Context, input int, local *node) error {
	for _, a := range n.v.Op.GetFile().GetActions() {
		c := a.GetCopy()
		if c == nil || int(a.SecondaryInput) != input {
			continue
		}
		t, err := local.scan(ctx)
		if err != nil {
			return err
		}
		if err := fileop.CheckSource(ctx, c, t); errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// definitionKey is the key of what the vertex is meant to be: its operation and those of its inputs. No input is
// evaluated for it; of local sources, the content that is used is in it.
func (n *node) definitionKey(ctx context.Context) (store.Key, error) {
	return n.defKey.do(ctx, func(ctx context.Context) (store.Key, error) {
		switch n.v.Op.Op.(type) {
		case *pb.Op_Source:
			return n.sourceKey(ctx)
		case *pb.Op_Merge:
			return n.mergeKey(ctx)
		}
		k, err := n.opKey(ctx, "definition", false)
		if err != nil {
			return store.Key{}, err
		}
		uses := inputUses(n.v)
		keys := make([]string, len(n.inputs))
		err = n.eachInput(ctx, func(ctx context.Context, i int, in edge) error {
			if in.isLocal() && !uses[i].whole {
				d, err := n.localDigests(ctx, in.node, uses[i].selectors)
				keys[i] = "content " + d
				if err == nil {
					err = n.failed(ctx, n.checkSources(ctx, i, in.node))
				}
				return err
			}
			key, err := in.definitionKey(ctx)
			keys[i] = fmt.Sprintf("definition %s %d", key, in.index)
			return err
		})
		if err != nil {
			return store.Key{}, err
		}
		k.line("inputs", anys(keys)...)
		return k.sum(), nil
	})
}

// contentKey is the key of what the vertex is made from, given the results of its inputs: of an input that is used only
// in part, that part.
func (n *node) contentKey(ctx context.Context, inputs []result) (store.Key, error) {
	k, err := n.opKey(ctx, "content", true)
	if err != nil {
		return store.Key{}, err
	}
	uses := inputUses(n.v)
	keys := make([]string, len(inputs))
	err = n.eachInput(ctx, func(ctx context.Context, i int, in edge) error {
		switch {
		case uses[i].whole:
			keys[i] = inputs[i].identity()
			return nil
		case in.isLocal():
			d, err := n.localDigests(ctx, in.node, uses[i].selectors)
			keys[i] = "content " + d
			return err
		}
		d, err := n.e.layerDigests(ctx, inputs[i].Layers, uses[i].selectors)
		keys[i] = "content " + d
		return err
	})
	if err != nil {
		return store.Key{}, err
	}
	k.line("inputs", anys(keys)...)
	return k.sum(), nil
}

func (n *node) localDigests(ctx context.Context, local *node, sels []fileop.Selector) (string, error) {
	t, err := local.scan(ctx)
	if err != nil {
		return "", err
	}
	return joinDigests(sels, func(sel fileop.Selector) (string, error) {
		what := fmt.Sprintf("%s %#v", fileop.DigestVersion, sel) // with quotes: patterns hold spaces
		return t.Remember(what, func() (string, error) { return fileop.Digest(ctx, t, sel, t.Digest) })
	})
}

// joinDigests makes one digest for several selections. A file that is missing counts as such: the operation itself
// tells the user, or does not mind.
func joinDigests(sels []fileop.Selector, digest func(fileop.Selector) (string, error)) (string, error) {
	k := newKey("selections", "")
	for _, sel := range sels {
		d, err := digest(sel)
		if errors.Is(err, fs.ErrNotExist) {
			d, err = "missing", nil
		}
		if err != nil {
			return "", err
		}
		k.line("selection", d)
	}
	return k.sum().String(), nil
}

// digestRecord keeps the digest of a selection of a chain, which never changes.
type digestRecord struct {
	Digest string `json:"digest"`
}

const kindDigest = store.KindDigest

// layerDigests is the digest of selections of a chain. The child reads; what it found is remembered.
func (e *Engine) layerDigests(ctx context.Context, chain []string, sels []fileop.Selector) (string, error) {
	return joinDigests(sels, func(sel fileop.Selector) (string, error) {
		k := newKey("digest", "")
		k.line("layers", anys(realLayers(chain))...)
		k.line("selector", fmt.Sprintf("%#v", sel)) // with quotes: patterns hold spaces
		var rec digestRecord
		if err := e.o.Store.Get(kindDigest, k.sum(), &rec); err == nil && rec.Digest != "" {
			return rec.Digest, nil
		}
		if err := e.call(ctx, methodDigest, digestReq{Chain: realLayers(chain), Selector: sel}, &rec, nil); err != nil {
			return "", fmt.Errorf("digest %s: %w", sel.Path, err)
		}
		return rec.Digest, e.o.Store.Put(kindDigest, k.sum(), rec)
	})
}
