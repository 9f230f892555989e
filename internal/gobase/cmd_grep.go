package gobase

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const grepFlags = "qrREFivnclLoe:hHsxwm:a"

var grepLong = map[string]string{
	"quiet": "q", "recursive": "r", "extended-regexp": "E", "fixed-strings": "F", "ignore-case": "i",
	"invert-match": "v", "line-number": "n", "count": "c", "files-with-matches": "l", "only-matching": "o",
	"no-filename": "h", "with-filename": "H", "no-messages": "s", "line-regexp": "x", "word-regexp": "w",
}

// basicToExtended turns a basic regular expression into Go's syntax: there \( \) \{ \} \| \+ \? are the
// operators and ( ) { } | + ? plain characters.
func basicToExtended(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			if strings.IndexByte("(){}|+?", s[i]) < 0 {
				out.WriteByte('\\')
			}
			out.WriteByte(s[i])
		case strings.IndexByte("(){}|+?", c) >= 0:
			out.WriteByte('\\')
			out.WriteByte(c)
		case c == '*' && i == 0:
			out.WriteString(`\*`)
		case c == '[':
			end := strings.IndexByte(s[min(i+2, len(s)):], ']')
			if end < 0 {
				out.WriteString(`\[`)
				continue
			}
			out.WriteString(s[i : i+3+end])
			i += 2 + end
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

func (c *call) grepPattern(text string) (*regexp.Regexp, error) {
	var alternatives []string
	for _, p := range strings.Split(text, "\n") {
		switch {
		case c.args[0] == "fgrep" || c.opt.has("F"):
			p = regexp.QuoteMeta(p)
		case c.args[0] != "egrep" && !c.opt.has("E"):
			p = basicToExtended(p)
		}
		if c.opt.has("w") {
			p = `\b(?:` + p + `)\b`
		}
		if c.opt.has("x") {
			p = `^(?:` + p + `)$`
		}
		alternatives = append(alternatives, p)
	}
	p := strings.Join(alternatives, "|")
	if c.opt.has("i") {
		p = "(?i)" + p
	}
	re, err := regexp.Compile(p)
	if err == nil {
		re.Longest() // of alternatives POSIX takes the longest
	}
	return re, err
}

func grep(c *call) int {
	names, pattern := c.opt.args, strings.Join(c.opt.val["e"], "\n")
	if !c.opt.has("e") {
		if len(names) == 0 {
			return c.fail(2, "missing pattern")
		}
		pattern, names = names[0], names[1:]
	}
	re, err := c.grepPattern(pattern)
	if err != nil {
		return c.fail(2, "%v", err)
	}
	recursive := c.opt.has("r") || c.opt.has("R")
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
