package gobuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// listed is a package as `go list -deps` prints it.
type listed struct {
	Dir, ImportPath, Name string
	Standard, DepOnly     bool
	Module                *listedModule
	Imports               []string
	ImportMap             map[string]string

	GoFiles, CgoFiles, CFiles, CXXFiles, MFiles, HFiles, FFiles, SFiles, SwigFiles, SwigCXXFiles, SysoFiles []string
	EmbedPatterns, EmbedFiles                                                                               []string

	DefaultGODEBUG string
	Error          *struct{ Err string }
	Incomplete     bool
}

type listedModule struct {
	Path, Version, Dir, GoMod, GoVersion string
	Main                                 bool
	Replace                              *listedModule
}

// listFields are the fields that are asked for: all of them would take go list longer.
const listFields = "Dir,ImportPath,Name,Standard,DepOnly,Module,Imports,ImportMap,GoFiles,CgoFiles,CFiles,CXXFiles,MFiles,HFiles,FFiles," +
	"SFiles,SwigFiles,SwigCXXFiles,SysoFiles,EmbedPatterns,EmbedFiles,DefaultGODEBUG,Error,Incomplete"

// list asks for the packages and all that they import. Packages with errors are among them: go build says best what is wrong.
func (b *build) list(ctx context.Context) ([]listed, error) {
	args := slices.Concat([]string{"list", "-e", "-deps", "-json=" + listFields}, b.flags, []string{"--"}, b.patterns)
	out, err := b.goCommand(ctx, args...)
	if err != nil {
		return nil, err
	}
	return readList(out)
}

func readList(out []byte) ([]listed, error) {
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		all = append(all, p)
	}
}

// mainsOf are the main packages that were named, in the order of their paths, and any that is broken.
func mainsOf(all []listed) ([]mainPackage, error) {
	var mains []mainPackage
	var others []string
	for _, p := range all {
		switch {
		case p.DepOnly:
		case p.Name == "main" || p.Error != nil:
			mains = append(mains, mainPackage{path: p.ImportPath, dir: p.Dir})
		default:
			others = append(others, p.ImportPath)
		}
	}
	if len(mains) == 0 {
		return nil, &NoMainError{others}
	}
	slices.SortFunc(mains, func(a, b mainPackage) int { return strings.Compare(a.path, b.path) })
	return mains, checkNames(mains)
}

// NoMainError says that there is no program among the packages that were named.
type NoMainError struct{ Packages []string }

func (e *NoMainError) Error() string {
	switch len(e.Packages) {
	case 0:
		return "the patterns match no package"
	case 1:
		return fmt.Sprintf("%s is not a main package: an image needs a program", e.Packages[0])
	}
	return fmt.Sprintf("none of the %d packages is a main package: an image needs a program", len(e.Packages))
}

// checkNames refuses programs that go build would write to one file.
func checkNames(mains []mainPackage) error {
	names := map[string]string{}
	for _, m := range mains {
		name := programName(m.path)
		if other := names[name]; other != "" {
			return fmt.Errorf("%s and %s are both built to %s: build one after the other", other, m.path, name)
		}
		names[name] = m.path
	}
	return nil
}

// programName is the name that go build gives a program (cmd/go/internal/load, DefaultExecName): the last element of its path,
// or the one before where that is a version.
func programName(importPath string) string {
	dir, elem := path.Split(importPath)
	if elem != importPath && isVersion(elem) {
		elem = path.Base(dir)
	}
	return elem
}

// isVersion tells whether a path element is v2 or more (cmd/go/internal/load, isVersionElement).
func isVersion(s string) bool {
	if len(s) < 2 || s[0] != 'v' || s[1] == '0' || s[1] == '1' && len(s) == 2 {
		return false
	}
	return strings.Trim(s[1:], "0123456789") == ""
}
