package gnumake

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Files is the file system that a make sees. All names are absolute and clean.
type Files interface {
	Stat(name string) (fs.FileInfo, error)
	ReadFile(name string) ([]byte, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Real(name string) (string, error) // without links
	Write(name string, data []byte, more bool) error
	Touch(name string, now time.Time) error
	Remove(name string) error
}

// Root is the file system below a folder of this machine; "" and "/" are all of it.
type Root string

func (r Root) at(name string) string { return filepath.Join(string(r), filepath.FromSlash(name)) }

// Stat is os.Stat.
func (r Root) Stat(name string) (fs.FileInfo, error) { return os.Stat(r.at(name)) }

// ReadFile reads a file of bounded size.
func (r Root) ReadFile(name string) ([]byte, error) {
	info, err := os.Stat(r.at(name))
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, errors.New("the file is too large")
	}
	return os.ReadFile(r.at(name))
}

// ReadDir is os.ReadDir.
func (r Root) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(r.at(name)) }

// Real resolves all links.
func (r Root) Real(name string) (string, error) {
	found, err := filepath.EvalSymlinks(r.at(name))
	if err != nil {
		return "", err
	}
	if r == "" || r == "/" {
		return found, nil
	}
	base, err := filepath.EvalSymlinks(string(r))
	if err != nil {
		return "", err
	}
	rest, err := filepath.Rel(base, found)
	return path.Join("/", filepath.ToSlash(rest)), err
}

// Write writes a file, or more at its end.
func (r Root) Write(name string, data []byte, more bool) error {
	how := os.O_WRONLY | os.O_CREATE
	if more {
		how |= os.O_APPEND
	} else {
		how |= os.O_TRUNC
	}
	f, err := os.OpenFile(r.at(name), how, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Touch makes a file new.
func (r Root) Touch(name string, now time.Time) error {
	f, err := os.OpenFile(r.at(name), os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Chtimes(r.at(name), now, now))
}

// Remove is os.Remove.
func (r Root) Remove(name string) error { return os.Remove(r.at(name)) }

// abs is the absolute name of a file that a Makefile names.
func (k *maker) abs(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(k.cwd, name)
}

// exists reports whether there is a file of the name.
func (k *maker) exists(name string) bool {
	info, err := k.Files.Stat(k.abs(name))
	return err == nil && (info.IsDir() || !strings.HasSuffix(name, "/"))
}

// isGlob reports whether a name has the characters of a pattern.
func isGlob(name string) bool { return strings.ContainsAny(name, "*?[") }

// glob expands a pattern as glob(3) does, sorted; none where nothing matches. A name without a pattern is itself where it exists.
func (k *maker) glob(pattern string) []string {
	if home, rest, ok := k.tilde(pattern); ok {
		pattern = home + rest
	}
	if !isGlob(pattern) {
		name := unescapeGlob(pattern)
		if k.exists(name) {
			return []string{name}
		}
		return nil
	}
	found := []string{""}
	rest := pattern
	if strings.HasPrefix(rest, "/") {
		found, rest = []string{"/"}, strings.TrimLeft(rest, "/")
	}
	for rest != "" {
		part, more, slash := strings.Cut(rest, "/")
		more = strings.TrimLeft(more, "/")
		var next []string
		for _, dir := range found {
			for _, name := range k.globIn(dir, part) {
				if !slash {
					next = append(next, name)
					continue
				}
				if info, err := k.Files.Stat(k.abs(name)); err == nil && info.IsDir() {
					next = append(next, name+"/")
				}
			}
		}
		found, rest = next, more
	}
	slices.Sort(found)
	return found
}

// globIn are the names below dir, which is empty or ends in a slash, that one part of a pattern matches.
func (k *maker) globIn(dir, part string) []string {
	if !isGlob(part) {
		name := dir + unescapeGlob(part)
		if _, err := k.Files.Stat(k.abs(name)); err != nil {
			return nil
		}
		return []string{name}
	}
	entries, err := k.list(k.abs(dir))
	if err != nil {
		return nil
	}
	part = strings.ReplaceAll(part, "[!", "[^")
	var found []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(part, ".") {
			continue
		}
		if ok, err := path.Match(part, e.Name()); err == nil && ok {
			found = append(found, dir+e.Name())
		}
	}
	if strings.HasPrefix(part, ".") {
		for _, name := range []string{".", ".."} {
			if ok, _ := path.Match(part, name); ok {
				found = append(found, dir+name)
			}
		}
	}
	return found
}

// list reads a folder. In 4.3 the names in a folder are those that were there when make first looked.
func (k *maker) list(dir string) ([]fs.DirEntry, error) {
	if entries, ok := k.listed[dir]; ok {
		return entries, nil
	}
	entries, err := k.Files.ReadDir(dir)
	if err == nil && !k.newer() {
		k.listed[dir] = entries
	}
	return entries, err
}

func unescapeGlob(name string) string {
	if !strings.Contains(name, `\`) {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+1 < len(name) {
			i++
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// tilde takes ~ and ~/rest apart. Other users' folders are not looked up.
func (k *maker) tilde(name string) (home, rest string, ok bool) {
	if !strings.HasPrefix(name, "~") {
		return "", "", false
	}
	user, rest, slash := strings.Cut(name[1:], "/")
	if slash {
		rest = "/" + rest
	}
	if user != "" {
		return "", "", false
	}
	home = k.expandVar("HOME")
	return home, rest, home != ""
}
