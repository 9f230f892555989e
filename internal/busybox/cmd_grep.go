package busybox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const grepFlags = "qrEFivncloe:hHsxwm:"

var grepLong = map[string]string{
	"quiet": "q", "recursive": "r", "regexp": "e:", "max-count": "m:", "extended-regexp": "E", "fixed-strings": "F", "ignore-case": "i",
	"invert-match": "v", "line-number": "n", "count": "c", "files-with-matches": "l", "only-matching": "o",
	"no-filename": "h", "with-filename": "H", "no-messages": "s", "line-regexp": "x", "word-regexp": "w",
}

// wordPattern are patterns for which -w needs no thought.
var wordPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_. -]*[A-Za-z0-9_])?$`)

func (o options) grepPattern(name, text string) (*regexp.Regexp, error) {
	fixed, extended := name == "fgrep" || o.has("F"), name == "egrep" || o.has("E")
	var alternatives []string
	for _, p := range strings.Split(text, "\n") {
		if o.has("w") && !wordPattern.MatchString(p) {
			return nil, fmt.Errorf("-w of the expression %s is not served", p)
		}
		if fixed {
			if o.has("i") && !ascii(p) {
				return nil, fmt.Errorf("-i of the expression %s is not served", p)
			}
			p = regexp.QuoteMeta(p)
		} else {
			var err error
			if p, err = posixToGo(p, extended); err != nil {
				return nil, fmt.Errorf("the expression %s: %w", text, err)
			}
		}
		if o.has("w") {
			p = `\b(?:` + p + `)\b`
		}
		if o.has("x") {
			p = `^(?:` + p + `)$`
		}
		alternatives = append(alternatives, p)
	}
	p := strings.Join(alternatives, "|")
	if o.has("i") {
		p = "(?i)" + p
	}
	re, err := regexp.Compile(p)
	if err != nil {
		return nil, fmt.Errorf("the expression %s is not served", text)
	}
	re.Longest() // of alternatives POSIX takes the longest
	return re, nil
}

func checkGrep(name string) func(Variant, []Value) string {
	return func(_ Variant, args []Value) string {
		texts, all := known(args)
		if !all {
			return ""
		}
		o, err := parseOptions(commands()[name], texts)
		if err == nil && !o.has("e") && len(o.args) == 0 {
			err = errors.New("a pattern is missing")
		}
		if err == nil {
			pattern := strings.Join(o.val["e"], "\n")
			if !o.has("e") {
				pattern = o.args[0]
			}
			_, err = o.grepPattern(name, pattern)
		}
		if err != nil {
			return err.Error()
		}
		return ""
	}
}

func grep(c *call) int {
	names, pattern := c.opt.args, strings.Join(c.opt.val["e"], "\n")
	if !c.opt.has("e") {
		if len(names) == 0 {
			return c.unserved("a pattern is missing")
		}
		pattern, names = names[0], names[1:]
	}
	re, err := c.opt.grepPattern(c.args[0], pattern)
	if err != nil {
		return c.unserved("%v", err)
	}
	recursive := c.opt.has("r")
	if len(names) == 0 {
		names = []string{"-"}
		if recursive {
			names = []string{"."}
		}
	}
	g := &grepRun{c: c, re: re, named: (len(names) > 1 || recursive || c.opt.has("H")) && !c.opt.has("h")}
	for _, name := range names {
		if recursive && name != "-" {
			g.tree(name)
		} else {
			g.one(name)
		}
		if g.hits > 0 && c.opt.has("q") {
			return 0
		}
	}
	switch {
	case g.broken:
		return 2
	case g.hits > 0:
		return 0
	}
	return 1
}

// grepRun is one run of grep over many files.
type grepRun struct {
	c      *call
	re     *regexp.Regexp
	named  bool // lines begin with the file's name
	hits   int
	broken bool
}

func (g *grepRun) tree(name string) {
	err := filepath.WalkDir(g.c.abs(name), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(g.c.abs(name), path)
		if err != nil {
			return err
		}
		shown := strings.TrimSuffix(name, "/") + "/" + rel
		if rel == "." {
			shown = name
		}
		g.one(shown)
		return nil
	})
	if err != nil {
		g.fail(name, err)
	}
}

func (g *grepRun) fail(name string, err error) {
	g.broken = true
	if !g.c.opt.has("s") {
		g.c.fail(2, "%s: %s", name, why(err))
	}
}

func (g *grepRun) one(name string) {
	r, err := g.c.open(name)
	if err != nil {
		g.fail(name, err)
		return
	}
	defer r.Close()
	if info, err := os.Stat(g.c.abs(name)); name != "-" && err == nil && info.IsDir() {
		g.fail(name, fmt.Errorf("Is a directory"))
		return
	}
	if err := g.lines(name, r); err != nil {
		g.fail(name, err)
	}
}

func (g *grepRun) lines(name string, r io.Reader) error {
	o := g.c.opt
	prefix := ""
	if g.named {
		prefix = name + ":"
	}
	limit, _ := strconv.Atoi(o.value("m"))
	hits, number := 0, 0
	s := lines(r)
	for s.Scan() {
		number++
		line := s.Text()
		if !ascii(line) && g.c.variant() == Alpine && !g.c.opt.has("F") || strings.IndexByte(line, 0) >= 0 {
			g.c.unserved("text beyond ASCII, or binary, is not served")
		}
		if g.re.MatchString(line) == o.has("v") {
			continue
		}
		hits++
		if o.has("q") {
			break
		}
		if !o.has("c") && !o.has("l") && !o.has("L") {
			g.show(prefix, number, line)
		}
		if limit > 0 && hits == limit {
			break
		}
	}
	g.hits += hits
	switch {
	case o.has("q"):
	case o.has("c"):
		fmt.Fprintf(g.c.stdout, "%s%d\n", prefix, hits)
	case o.has("l") && hits > 0, o.has("L") && hits == 0:
		fmt.Fprintln(g.c.stdout, name)
	}
	return s.Err()
}

func (g *grepRun) show(prefix string, number int, line string) {
	if g.c.opt.has("n") {
		prefix += strconv.Itoa(number) + ":"
	}
	if !g.c.opt.has("o") {
		fmt.Fprintln(g.c.stdout, prefix+line)
		return
	}
	for _, m := range g.re.FindAllString(line, -1) {
		if m != "" {
			fmt.Fprintln(g.c.stdout, prefix+m)
		}
	}
}
