package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/localdir"
	"github.com/skiff-build/skiff/internal/store"
)

// Explainer is told why steps run. What a step that runs is made of is remembered, by the project and the step's text, and compared the
// next time; with no Explainer nothing is remembered.
type Explainer struct {
	Project string // names the Dockerfile: steps of another one are others
	// Because is called for each step before it runs, from several goroutines. Nil: nobody asks now, somebody may the next time.
	Because func(step, why string)
}

const kindExplain = store.KindExplain

// madeOf is what a step was made of when it ran.
type madeOf struct {
	Command string            `json:"command"` // a digest
	Env     map[string]string `json:"env"`     // digests of the values, which may be secret
	Inputs  []inputOf         `json:"inputs"`
}

// inputOf is one input of a step.
type inputOf struct {
	Name    string            `json:"name"`
	Content string            `json:"content"`
	Files   map[string]string `json:"files,omitempty"` // of a local directory: digests by name
	shown   string            // as progress names it
}

// The files of a local directory that are remembered one by one are bounded: where nobody has asked for an explanation yet, to what
// costs a millisecond.
const (
	maxExplained   = 100_000
	maxUnexplained = 2000
)

// explain says why the step runs, and returns what remembers it when it has.
func (n *node) explain(ctx context.Context, inputs []result, by *byInputs) (remember func() error, err error) {
	x := n.e.o.Explain
	if x == nil {
		return func() error { return nil }, nil
	}
	now, err := n.madeOf(ctx, inputs)
	if err != nil && x.Because == nil {
		return func() error { return nil }, nil // what nobody asked for ends no build
	}
	if err != nil {
		return nil, err
	}
	name := stepText(n.v)
	key := hashLines("explain", x.Project, name)
	remember = func() error { return n.e.o.Store.Put(kindExplain, key, explainRecord{madeOf: now}) }
	if x.Because == nil {
		return remember, nil
	}
	var before madeOf
	why := ""
	switch err := n.e.o.Store.Get(kindExplain, key, &before); {
	case n.nocache:
		why = "no results of earlier builds are taken (--no-cache)"
	case err != nil:
		why = "it runs for the first time"
	case by != nil && len(by.changed) > 0:
		why = "of what it reads " + nameList(by.changed) + " changed"
	default:
		if why = strings.Join(now.differences(before), "; "); why == "" {
			why = "its result is not in the state any more"
		}
	}
	n.logLine("because " + why)
	x.Because(n.v.Name(), why)
	return remember, nil
}

type explainRecord struct {
	madeOf
	Layers []string `json:"layers"` // none: collection takes the record when it is old
}

var stepNumber = regexp.MustCompile(`\s*\d+/\d+\]`)

// stepText is what tells a step from others, whatever its arguments are: its stage, without the number, which counts the steps of the
// stage, and its lines in the Dockerfile, where nothing is replaced yet.
func stepText(v *graph.Vertex) string {
	name := stepNumber.ReplaceAllString(v.Name(), "]")
	stage, _, ok := strings.Cut(name, "]")
	for _, at := range v.Source {
		info := v.Info(at)
		if info == nil || len(at.Ranges) == 0 || !ok {
			continue
		}
		lines := strings.Split(string(info.Data), "\n")
		from, to := int(at.Ranges[0].Start.GetLine())-1, int(at.Ranges[len(at.Ranges)-1].End.GetLine())
		if from >= 0 && from < to && to <= len(lines) {
			return stage + "] " + strings.Join(lines[from:to], "\n")
		}
	}
	return name
}

func (n *node) madeOf(ctx context.Context, inputs []result) (madeOf, error) {
	m := madeOf{Env: map[string]string{}}
	switch o := n.v.Op.Op.(type) {
	case *pb.Op_Exec:
		m.Command = hashLines("command", append([]string{o.Exec.Meta.Cwd, o.Exec.Meta.User}, o.Exec.Meta.Args...)...).String()
		for _, kv := range o.Exec.Meta.Env {
			name, value, _ := strings.Cut(kv, "=")
			m.Env[name] = hashLines("value", value).String()
		}
	case *pb.Op_File:
		k := newKey("command", "")
		if err := k.file(n, o.File, false); err != nil {
			return m, err
		}
		m.Command = k.sum().String()
	}
	uses := inputUses(n.v)
	for i, in := range n.inputs {
		of := inputOf{Name: inputName(in.v), shown: in.v.Name(), Content: inputs[i].identity()}
		if in.isLocal() && n.readsLocal(i, uses[i]) {
			t, err := in.scan(ctx)
			if err != nil {
				return m, err
			}
			limit := maxExplained
			if n.e.o.Explain.Because == nil {
				limit = maxUnexplained
			}
			if of.Files, err = filesOf(t, uses[i].selectors, limit); err != nil {
				return m, err
			}
			if of.Content, err = n.localDigests(ctx, in.node, uses[i].selectors); err != nil {
				return m, err
			}
			of.shown = "the " + of.Name
		}
		m.Inputs = append(m.Inputs, of)
	}
	return m, nil
}

// inputName is an input as people know it.
func inputName(v *graph.Vertex) string {
	if src := v.Op.GetSource(); src != nil {
		if _, name := splitIdentifier(src.Identifier); isLocal(v) {
			return name
		}
		return "the base"
	}
	return stepText(v)
}

// errTooMany ends a walk.
var errTooMany = errors.New("too many files")

// filesOf are the digests of the files of a local directory that selectors take; nil where there are more than limit.
func filesOf(t *localdir.Tree, sels []fileop.Selector, limit int) (map[string]string, error) {
	files := map[string]string{}
	err := t.Walk(func(name string, i inode.Info) error {
		if !slices.ContainsFunc(sels, func(s fileop.Selector) bool { return covered(s, name) }) {
			return nil
		}
		if len(files) >= limit {
			return errTooMany
		}
		what := fmt.Sprintf("%o %s", i.Mode, i.Link)
		if i.IsDir() {
			what = folderMark + what
		}
		if i.IsRegular() {
			d, err := t.Digest(name)
			if err != nil {
				return err
			}
			what += d
		}
		files[name] = what
		return nil
	})
	if errors.Is(err, errTooMany) {
		return nil, nil
	}
	return files, err
}

// folderMark begins what is remembered of a folder.
const folderMark = "folder "

// filesIn counts those that are no folders.
func filesIn(files map[string]string) (n int) {
	for _, what := range files {
		if !strings.HasPrefix(what, folderMark) {
			n++
		}
	}
	return n
}

// covered tells whether a file lies below a selection, or on the way of its wildcards.
func covered(s fileop.Selector, name string) bool {
	want := strings.TrimPrefix(path.Clean("/"+s.Path), "/")
	if want == "" || name == want || strings.HasPrefix(name, want+"/") {
		return true
	}
	if !strings.ContainsAny(want, "*?[") {
		return false
	}
	parts, pattern := strings.Split(name, "/"), strings.Split(want, "/")
	if len(parts) < len(pattern) {
		return false
	}
	ok, err := path.Match(want, strings.Join(parts[:len(pattern)], "/"))
	return ok && err == nil
}

// mostNames are so many files or variables that a line names.
const mostNames = 3

// differences are what is other than before, in words.
func (m madeOf) differences(before madeOf) []string {
	var out []string
	if names := changedNames(before.Env, m.Env); len(names) > 0 {
		out = append(out, "the argument or variable "+nameList(names)+" changed")
	} else if m.Command != before.Command {
		out = append(out, "its instruction changed")
	}
	for i, in := range m.Inputs {
		if i >= len(before.Inputs) || before.Inputs[i].Name != in.Name {
			out = append(out, "it stands on other steps than before")
			break
		}
		was := before.Inputs[i]
		switch {
		case in.Files != nil && was.Files != nil:
			if names := changedNames(was.Files, in.Files); len(names) > 0 {
				out = append(out, fmt.Sprintf("of the %s %s changed, %d of %d files", in.Name, nameList(names), len(names), filesIn(in.Files)))
			}
		case in.Content != was.Content:
			out = append(out, in.shown+" gave other files")
		}
	}
	return out
}

// changedNames are those that differ, are new, or are gone.
func changedNames(before, now map[string]string) []string {
	var names []string
	for name, value := range now {
		if before[name] != value {
			names = append(names, name)
		}
	}
	for name := range maps.Keys(before) {
		if _, ok := now[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func nameList(names []string) string {
	if n := len(names) - mostNames; n > 0 {
		return strings.Join(names[:mostNames], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ")
}
