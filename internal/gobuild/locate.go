package gobuild

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// place is where the go command runs, and its patterns as they are to be given there.
type place struct {
	dir      string // absolute
	patterns []string
}

// locate finds the place for packages. That is the working directory, as for go build; but where all packages are folders of
// one other module (or workspace), which go build would refuse, it is the root of that.
func locate(packages []string) (place, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return place{}, err
	}
	here := place{dir: cwd}
	if len(packages) == 0 {
		return here, errors.New("no package is named")
	}
	roots := map[string]bool{}
	var dirs []string // of the patterns that are folders; "" for others
	for _, p := range packages {
		dir, ok := folderOf(p)
		if !ok {
			here.patterns, dirs = append(here.patterns, p), append(dirs, "")
			roots[moduleRoot(cwd)] = true
			continue
		}
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(cwd, dir)
		}
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return here, fmt.Errorf("%s: no such folder", p)
		}
		here.patterns, dirs = append(here.patterns, localPattern(p)), append(dirs, dir)
		roots[moduleRoot(dir)] = true
	}
	if len(roots) > 1 {
		return here, fmt.Errorf("the packages are of several modules: %s: join them in a go.work, or build one after the other", strings.Join(packages, " "))
	}
	for root := range roots {
		if root != moduleRoot(cwd) && root != "" {
			return moved(root, dirs, packages)
		}
	}
	return here, nil
}

// moved are the patterns as they look from root.
func moved(root string, dirs, packages []string) (place, error) {
	p := place{dir: root}
	for i, dir := range dirs {
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			return p, err
		}
		pattern := localPattern(rel)
		if tree, ok := strings.CutSuffix(filepath.ToSlash(packages[i]), "/..."); ok || tree == "..." {
			pattern += "/..."
		} else if strings.Contains(packages[i], "...") {
			return p, fmt.Errorf("%s: it is in another module than the working directory: change to %s for a pattern like this", packages[i], root)
		}
		p.patterns = append(p.patterns, pattern)
	}
	return p, nil
}

// folderOf is the folder that a pattern starts from; not ok: it is an import path or one of go's own words.
func folderOf(pattern string) (dir string, ok bool) {
	slashed := filepath.ToSlash(pattern)
	head, _, tree := strings.Cut(slashed, "...")
	local := slashed == "." || slashed == ".." || strings.HasPrefix(slashed, "./") || strings.HasPrefix(slashed, "../") || filepath.IsAbs(pattern)
	if tree {
		head = head[:strings.LastIndex(head, "/")+1]
	}
	if !local {
		if tree && head == "" {
			return "", false
		}
		st, err := os.Stat(filepath.FromSlash(head))
		local = err == nil && st.IsDir()
	}
	return filepath.FromSlash(head), local
}

// localPattern makes cmd/app ./cmd/app: a folder, where the go command would read an import path.
func localPattern(p string) string {
	p = filepath.ToSlash(p)
	if p == "." || p == ".." || strings.HasPrefix(p, "./") || strings.HasPrefix(p, "../") || filepath.IsAbs(p) {
		return p
	}
	return "./" + p
}

// moduleRoot is what decides where a package can be built from: the folder of the go.work above dir, else of the go.mod, else
// nothing.
func moduleRoot(dir string) string {
	if work := workFile(dir); work != "" {
		return filepath.Dir(work)
	}
	return findUp(dir, "go.mod")
}

// workFile is the go.work that counts in dir; "" for none.
func workFile(dir string) string {
	switch w := os.Getenv("GOWORK"); w {
	case "off":
		return ""
	case "":
		if root := findUp(dir, "go.work"); root != "" {
			return filepath.Join(root, "go.work")
		}
		return ""
	default:
		return w
	}
}

// findUp is the nearest folder, dir or above it, that has a file of this name.
func findUp(dir, name string) string {
	for {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && !st.IsDir() {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}
