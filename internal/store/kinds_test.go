package store

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// The tests' own kinds.
func init() {
	for _, k := range []Kind{"kind", "other", "index", "k", "n", "b"} {
		kinds[k] = true
	}
}

// A kind that two packages write would be read by the wrong one, as "digest" and "gomod" once were.
func TestKindsHaveOneWriter(t *testing.T) {
	fset := token.NewFileSet()
	writers := map[string]map[string]bool{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && unlisted(call) {
				t.Errorf("%s: a kind of record is spelled out, not one of the list", fset.Position(call.Pos()))
			}
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "store" && strings.HasPrefix(sel.Sel.Name, "Kind") && sel.Sel.Name != "Kind" {
				if writers[sel.Sel.Name] == nil {
					writers[sel.Sel.Name] = map[string]bool{}
				}
				writers[sel.Sel.Name][filepath.Dir(path)] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(writers) < 20 {
		t.Errorf("only %d kinds were found: the test looks in the wrong place", len(writers))
	}
	for kind, dirs := range writers {
		if len(dirs) != 1 {
			t.Errorf("%s is named in %d packages: %v", kind, len(dirs), dirs)
		}
	}
}

// unlisted reports whether a call of a method of a store, or of the state of package gobase, names a kind by a string.
func unlisted(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return false
	}
	var receiver string
	switch x := method.X.(type) {
	case *ast.Ident:
		receiver = x.Name
	case *ast.SelectorExpr:
		receiver = x.Sel.Name
	}
	switch strings.ToLower(receiver) {
	case "store", "state":
	default:
		return false
	}
	switch method.Sel.Name {
	case "Load", "Save", "Names", "Get", "GetData", "Put", "PutData", "Delete", "Each":
		lit, ok := call.Args[0].(*ast.BasicLit)
		return ok && lit.Kind == token.STRING
	}
	return false
}

func TestPutRefusesUnknownKind(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Put("nobody's", Key{}, 1); err == nil {
		t.Error("a record of a kind that is in no list was written")
	}
}
