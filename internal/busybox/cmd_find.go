package busybox

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// test is one test or action of find: whether a file passes, in the order of the command line.
type findTest func(f found) bool

// found is a file that find is looking at: its name as it is printed.
type found struct {
	name string
	path string
	info fs.FileInfo
}

// finder is one run of find: the expression in disjunctive form (-o between, -a within).
type finder struct {
	c        *call
	any      [][]findTest
	min, max int
	prune    bool // set by -prune for the folder just looked at
	acts     bool // an action other than printing was given
	code     int
	dry      bool     // only to see what is served
	last     []func() // what -exec … + runs
}

func find(c *call) int {
	f := &finder{c: c, max: -1, any: [][]findTest{nil}}
	args, starts := c.args[1:], []string{}
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "!" && args[0] != "(" {
		starts, args = append(starts, args[0]), args[1:]
	}
	if len(starts) == 0 {
		starts = []string{"."}
	}
	if err := f.parse(args); err != nil {
		return c.unserved("%v", err)
	}
	for _, start := range starts {
		f.walk(start, 0)
	}
	for _, run := range f.last {
		run()
	}
	return f.code
}

// checkFind says which words of find are not served. What -exec runs is judged by the step.
func checkFind(_ Variant, args []Value) string {
	texts, all := known(args)
	if !all {
		return ""
	}
	for len(texts) > 0 && !strings.HasPrefix(texts[0], "-") && texts[0] != "!" && texts[0] != "(" {
		texts = texts[1:]
	}
	if len(texts) > 0 && (texts[0] == "-L" || texts[0] == "-P") {
		return "the option " + texts[0] + " is not served"
	}
	f := &finder{any: [][]findTest{nil}, dry: true}
	if err := f.parse(texts); err != nil {
		return err.Error()
	}
	return ""
}

func (f *finder) parse(args []string) error {
	negate := false
	add := func(t findTest) {
		if negate {
			inner := t
			t = func(x found) bool { return !inner(x) }
		}
		negate = false
		last := len(f.any) - 1
		f.any[last] = append(f.any[last], t)
	}
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch word {
		case "!", "-not":
			negate = !negate
			continue
		case "-o", "-or":
			f.any = append(f.any, nil)
			continue
		case "-a", "-and", "-depth":
			continue
		case "-print", "-print0":
			end := "\n"
			if word == "-print0" {
				end = "\x00"
			}
			f.acts = true
			add(func(x found) bool { fmt.Fprint(f.c.stdout, x.name, end); return true })
			continue
		case "-delete":
			f.acts = true
			add(f.remove)
			continue
		case "-prune":
			add(func(found) bool { f.prune = true; return true })
			continue
		case "-empty":
			add(isEmpty)
			continue
		case "-exec":
			test, rest, err := f.exec(args)
			if err != nil {
				return err
			}
			f.acts, args = true, rest
			add(test)
			continue
		}
		if len(args) == 0 {
			return fmt.Errorf("unrecognized or incomplete: %s", word)
		}
		test, err := f.valued(word, args[0])
		if err != nil {
			return err
		}
		args = args[1:]
		if test != nil {
			add(test)
		}
	}
	return nil
}

// valued reads the tests that take a value.
func (f *finder) valued(word, value string) (findTest, error) {
	match := func(pattern, name string) bool { ok, _ := path.Match(pattern, name); return ok }
	if word == "-name" || word == "-iname" || word == "-path" || word == "-wholename" {
		if _, err := path.Match(value, ""); err != nil || strings.Contains(value, "[!") || strings.Contains(value, "[:") || !ascii(value) {
			return nil, fmt.Errorf("the pattern %s is not served", value)
		}
	}
	switch word {
	case "-name":
		return func(x found) bool { return match(value, path.Base(x.name)) }, nil
	case "-iname":
		return func(x found) bool { return match(strings.ToLower(value), strings.ToLower(path.Base(x.name))) }, nil
	case "-path", "-wholename":
		// Here * matches slashes, too.
		within := strings.ReplaceAll(value, "/", "\x01")
		return func(x found) bool { return match(within, strings.ReplaceAll(x.name, "/", "\x01")) }, nil
	case "-type":
		if len(value) != 1 || !strings.Contains("fdlpsbc", value) {
			return nil, fmt.Errorf("-type %s is not served", value)
		}
		return func(x found) bool { return value == lsKind(x.info.Mode()) }, nil
	case "-maxdepth", "-mindepth":
		n, err := strconv.Atoi(value)
		if word == "-maxdepth" {
			f.max = n
		} else {
			f.min = n
		}
		return nil, err
	case "-perm":
		bits, err := strconv.ParseUint(strings.TrimLeft(value, "-/"), 8, 12)
		return func(x found) bool {
			have, _ := strconv.ParseUint(octal(x.info.Mode()), 8, 12)
			switch value[0] {
			case '-':
				return have&bits == bits
			case '/':
				return have&bits != 0
			}
			return have == bits
		}, err
	case "-newer":
		if f.dry {
			return nil, nil
		}
		info, err := os.Stat(f.c.abs(value))
		if err != nil {
			return nil, err
		}
		return func(x found) bool { return x.info.ModTime().After(info.ModTime()) }, nil
	case "-mtime", "-mmin":
		n, err := strconv.Atoi(strings.TrimLeft(value, "+-"))
		unit := 24 * time.Hour
		if word == "-mmin" {
			unit = time.Minute
		}
		return func(x found) bool {
			age := int(time.Since(x.info.ModTime()) / unit)
			return value[0] == '+' && age > n || value[0] == '-' && age < n || age == n && value[0] != '+' && value[0] != '-'
		}, err
	}
	return nil, fmt.Errorf("unrecognized: %s", word)
}

func lsKind(m fs.FileMode) string {
	if k := lsMode(m)[:1]; k != "-" {
		return k
	}
	return "f"
}

func isEmpty(x found) bool {
	if x.info.IsDir() {
		entries, err := os.ReadDir(x.path)
		return err == nil && len(entries) == 0
	}
	return x.info.Mode().IsRegular() && x.info.Size() == 0
}

func (f *finder) remove(x found) bool {
	if err := os.Remove(x.path); err != nil {
		f.code = f.c.fail(1, "%s: %s", x.name, why(err))
		return false
	}
	return true
}

// maxTogether is how many bytes of names one command of -exec … + gets; more would be several commands.
const maxTogether = 100 << 10

// exec reads "-exec command {} ;", and "-exec command {} +", which runs the command once at the end.
func (f *finder) exec(args []string) (findTest, []string, error) {
	for i, arg := range args {
		if arg != ";" && (arg != "+" || i == 0 || args[i-1] != "{}") {
			continue
		}
		words := args[:i]
		if arg == "+" {
			var names []string
			size := 0
			f.last = append(f.last, func() {
				if len(names) > 0 && f.c.runOther(append(slices.Clone(words[:len(words)-1]), names...), bytes.NewReader(nil)) != 0 {
					f.code = 1
				}
			})
			return func(x found) bool {
				if size += len(x.name) + 1; size > maxTogether {
					f.c.unserved("more names than one command takes")
				}
				names = append(names, x.name)
				return true
			}, args[i+1:], nil
		}
		return func(x found) bool {
			argv := make([]string, len(words))
			for j, w := range words {
				argv[j] = strings.ReplaceAll(w, "{}", x.name)
			}
			return f.c.runOther(argv, bytes.NewReader(nil)) == 0
		}, args[i+1:], nil
	}
	return nil, nil, fmt.Errorf("-exec needs a ; at its end")
}

// walk looks at a file, then at what is below; with -delete below comes first.
func (f *finder) walk(name string, depth int) {
	full := f.c.abs(name)
	info, err := os.Lstat(full)
	if err != nil {
		f.code = f.c.fail(1, "%s: %s", name, why(err))
		return
	}
	first := !f.deletes()
	if first {
		f.look(found{name, full, info}, depth)
	}
	pruned := f.prune
	f.prune = false
	if info.IsDir() && !pruned && (f.max < 0 || depth < f.max) {
		entries, err := os.ReadDir(full)
		if err != nil {
			f.code = f.c.fail(1, "%s: %s", name, why(err))
		}
		for _, e := range entries {
			f.walk(strings.TrimSuffix(name, "/")+"/"+e.Name(), depth+1)
		}
	}
	if !first {
		f.look(found{name, filepath.Clean(full), info}, depth)
	}
}

func (f *finder) deletes() bool {
	for _, arg := range f.c.args {
		if arg == "-delete" || arg == "-depth" {
			return true
		}
	}
	return false
}

func (f *finder) look(x found, depth int) {
	if depth < f.min {
		return
	}
	for _, all := range f.any {
		ok := true
		for _, test := range all {
			if ok = test(x); !ok {
				break
			}
		}
		if ok {
			if !f.acts {
				fmt.Fprintln(f.c.stdout, x.name)
			}
			return
		}
	}
}
