package gnumake

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// reader is what the reading of Makefiles keeps.
type reader struct {
	prefixChar byte // of recipes
	src        *source
	conds      []conditional
	rule       *pendingRule
	noTarget   bool // the recipe that follows belongs to a rule without targets
	includes   int  // within each other
	evals      int
	makefiles  []*readFile
	entered    bool
}

// readFile is a Makefile that was read, or that was looked for.
type readFile struct {
	name     string
	optional bool // -include, and names of default
	found    bool
	at       *Location
	problem  string
}

// source is the text of a Makefile or of an eval.
type source struct {
	text string
	pos  int
	file string
	line int  // of the logical line that was read last
	next int  // the line after it
	same bool // all lines have the number of the eval
}

// read gives the next logical line with its backslashes and newlines.
func (s *source) read() (string, bool) {
	if s.pos >= len(s.text) {
		return "", false
	}
	from := s.pos
	s.line = s.next
	for {
		n := strings.IndexByte(s.text[s.pos:], '\n')
		if n < 0 {
			s.pos = len(s.text)
			return s.text[from:], true
		}
		end := s.pos + n
		s.pos = end + 1
		if !s.same {
			s.next++
		}
		slashes := 0
		for end-slashes > from && s.text[end-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 || s.pos >= len(s.text) {
			return s.text[from:end], true
		}
	}
}

// readAll reads the Makefiles of MAKEFILES, of -f, or of their default names.
func (k *maker) readAll() {
	k.prefixChar = '\t'
	k.builtinSuffixes()
	for _, name := range words(k.global.vars["MAKEFILES"].value) {
		k.readMakefile(name, true, true)
	}
	if len(k.opts.files) == 0 {
		for _, name := range []string{"GNUmakefile", "makefile", "Makefile"} {
			if k.exists(name) {
				k.readMakefile(name, false, false)
				k.finishReading()
				return
			}
		}
		// One of them may be made by a rule; without Makefiles there is none but the built-in ones.
		k.finishReading()
		return
	}
	for _, name := range k.opts.files {
		if name == "-" {
			k.readStdin()
			continue
		}
		k.readMakefile(name, false, false)
	}
	k.finishReading()
}

// readMakefile reads one file.
func (k *maker) readMakefile(name string, optional, search bool) {
	if home, rest, ok := k.tilde(name); ok {
		name = home + rest
	}
	r := &readFile{name: name, optional: optional}
	if k.loc != nil {
		at := *k.loc
		r.at = &at
	}
	data, err := k.Files.ReadFile(k.abs(name))
	if err != nil && search && !path.IsAbs(name) {
		for _, dir := range words(k.includeDirs()) {
			if found := dir + "/" + name; k.exists(found) {
				data, err = k.Files.ReadFile(k.abs(found))
				name, r.name = found, found
				break
			}
		}
	}
	k.makefiles = append(k.makefiles, r)
	if err != nil {
		r.problem = reason(err)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, fs.ErrPermission):
			if !optional {
				k.sayError("%s: %s: %s", k.prefix(k.loc), name, r.problem)
			}
		default:
			if info, serr := k.Files.Stat(k.abs(name)); serr == nil && info.IsDir() {
				k.unserved(nil, "the Makefile %s is a folder", name)
			}
			k.unserved(nil, "%s: %s", name, r.problem)
		}
		return
	}
	r.found = true
	k.readText(name, data)
}

func (k *maker) readText(name string, data []byte) {
	text := strings.TrimPrefix(string(data), "\xef\xbb\xbf")
	if strings.IndexByte(text, 0) >= 0 {
		k.unserved(&Location{name, 1 + strings.Count(text[:strings.IndexByte(text, 0)], "\n")}, "the Makefile holds a zero byte")
	}
	if k.includes++; k.includes > maxIncludes {
		k.unserved(nil, "Makefiles include each other, %d deep", maxIncludes)
	}
	list := k.global.vars["MAKEFILE_LIST"]
	if list == nil {
		list = k.set(k.global, "MAKEFILE_LIST", "", false, fromFile)
		list.loc = nil
	}
	list.value = strings.TrimPrefix(list.value+" "+name, " ")
	k.parse(&source{text: text, file: name, next: 1})
	k.includes--
}

func (k *maker) readStdin() {
	k.unserved(nil, "a Makefile on standard input")
}

// evalText reads the text of an eval.
func (k *maker) evalText(text string) {
	if k.evals++; k.evals > maxIncludes*2 {
		k.unserved(nil, "evals are within each other too deep")
	}
	s := &source{text: text, file: "", next: 1, same: true}
	if k.loc != nil {
		s.file, s.next = k.loc.File, k.loc.Line
	}
	k.parse(s)
	k.evals--
}

// includeDirs are the folders in which Makefiles to include are looked for: those of -I that are there, and what a compiler has.
func (k *maker) includeDirs() string {
	dirs, own := []string{}, []string{"/usr/local/include", "/usr/include"}
	if !k.newer() {
		own = append(own, "/usr/include") // it names it twice
	}
	for _, dir := range k.opts.includes {
		if dir == "-" && k.newer() {
			dirs, own = nil, nil
		} else if info, err := k.Files.Stat(k.abs(dir)); err == nil && info.IsDir() {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(append(dirs, own...), " ")
}

// parse reads the lines of a text. What is under way in an outer text goes on after it.
func (k *maker) parse(s *source) {
	src, conds, rule, no, at := k.src, k.conds, k.rule, k.noTarget, k.loc
	k.src, k.conds, k.rule, k.noTarget = s, nil, nil, false
	k.lines()
	k.recordRule()
	if len(k.conds) > 0 {
		k.fatal(k.here(), "missing 'endif'")
	}
	k.src, k.conds, k.rule, k.noTarget, k.loc = src, conds, rule, no, at
}

// here is the line that is read.
func (k *maker) here() *Location {
	if k.src == nil || k.src.file == "" {
		return nil
	}
	return &Location{k.src.file, k.src.line}
}

// lines reads line by line.
func (k *maker) lines() {
	for n := 0; ; n++ {
		if n%1000 == 0 {
			k.alive()
		}
		line, ok := k.src.read()
		if !ok {
			if k.src.line != k.src.next {
				k.src.line = k.src.next
			}
			return
		}
		k.loc = k.here()
		if line == "" {
			continue
		}
		if line[0] == k.prefixChar {
			if k.noTarget {
				continue
			}
			if k.rule != nil {
				if !k.ignoring() {
					k.rule.add(line[1:], k.loc)
				}
				continue
			}
		}
		k.line(line)
	}
}

// line reads a logical line that is not of a recipe.
func (k *maker) line(raw string) {
	text := trimBlanks(withoutComment(collapse(raw)))
	if text == "" {
		return
	}
	if word, rest := firstWord(text); isConditional(word) {
		if k.condition(word, rest) {
			return
		}
	}
	m, ok := k.modifiers(text, false)
	if ok {
		k.assignmentLine(m)
		return
	}
	if k.ignoring() {
		return
	}
	word, rest := firstWord(text)
	switch word {
	case "export", "unexport":
		k.recordRule()
		k.exportLine(word == "export", rest)
		return
	case "vpath":
		if rest != "" {
			k.unserved(nil, "vpath is not served")
		}
		return
	case "include", "-include", "sinclude":
		if !strings.HasPrefix(rest, ":") && !strings.HasPrefix(rest, "=") {
			k.includeLine(rest, word != "include")
			return
		}
	case "load", "-load":
		if !strings.HasPrefix(rest, ":") {
			k.unserved(nil, "load is not served")
		}
	}
	if raw[0] == k.prefixChar {
		k.fatal(k.loc, "recipe commences before first target")
	}
	k.ruleLine(raw)
}

// firstWord takes the first word of a line off.
func firstWord(s string) (word, rest string) {
	n := 0
	for n < len(s) && !isSpace(s[n]) {
		n++
	}
	return s[:n], trimBlanks(s[n:])
}

// modified is an assignment with the words before it, or a define or undefine.
type modified struct {
	assignment
	export, unexport, override, private, define, undefine bool
}

// modifiers reads export, override, private, define and undefine before an assignment, and unexport before one of a target. ok is false
// where the line is no assignment.
func (k *maker) modifiers(text string, target bool) (m modified, ok bool) {
	for {
		if a, isAssign := parseAssignment(text); isAssign && a.name != "" || isAssign && !m.any() {
			m.assignment = a
			if !m.define {
				return m, true
			}
		}
		word, rest := firstWord(text)
		switch word {
		case "export":
			m.export, m.unexport = true, false
		case "unexport":
			if !target || !k.newer() {
				return m, false
			}
			m.export, m.unexport = false, true
		case "override":
			m.override = true
		case "private":
			m.private = true
		case "define":
			m.define = true
			m.name, m.flavor = rest, recursively
			if a, isAssign := parseAssignment(rest); isAssign {
				m.name, m.flavor = a.name, a.flavor
				m.value = a.value
			}
			return m, true
		case "undefine":
			m.undefine, m.name = true, rest
			return m, true
		default:
			return m, false
		}
		if rest == "" {
			return m, false
		}
		text = rest
	}
}

func (m modified) any() bool { return m.export || m.unexport || m.override || m.private }

// assignmentLine does what a line with an assignment says.
func (k *maker) assignmentLine(m modified) {
	if !k.ignoring() {
		k.recordRule()
	}
	from := fromFile
	if m.override {
		from = fromOverride
	}
	if m.define {
		k.define(m, from)
		return
	}
	if k.ignoring() {
		return
	}
	name := strings.Trim(k.expand(m.name), spaces)
	if m.name != "" && name == "" || m.name == "" {
		k.fatal(k.loc, "empty variable name")
	}
	if m.undefine {
		if v := k.global.vars[name]; v != nil && from >= v.origin {
			delete(k.global.vars, name)
		}
		return
	}
	v := k.assign(k.global, name, m.assignment, from, false)
	if m.export {
		v.export = exportYes
	}
	if m.private {
		v.private = true
	}
}

// define reads the lines of a define.
func (k *maker) define(m modified, from origin) {
	start := k.loc
	name := ""
	ignored := k.ignoring()
	if !ignored {
		if m.value != "" {
			k.warn(start, "extraneous text after 'define' directive")
		}
		if name = strings.Trim(k.expand(m.name), spaces); name == "" {
			k.fatal(start, "empty variable name")
		}
	}
	var body []string
	for depth := 1; ; {
		line, ok := k.src.read()
		if !ok {
			k.fatal(start, "missing 'endef', unterminated 'define'")
		}
		line = collapse(line)
		if line != "" && line[0] != k.prefixChar {
			word, rest := firstWord(trimBlanks(line))
			if word == "define" && rest != "" || word == "define" {
				depth++
			} else if word == "endef" || strings.HasPrefix(word, "endef#") {
				if depth--; depth == 0 {
					if rest = withoutComment(rest); rest != "" && word == "endef" {
						k.warn(k.here(), "extraneous text after 'endef' directive")
					}
					break
				}
			}
		}
		body = append(body, line)
	}
	if ignored {
		return
	}
	k.loc = start
	v := k.assign(k.global, name, assignment{name, strings.Join(body, "\n"), m.flavor}, from, false)
	if m.export {
		v.export = exportYes
	}
	if m.private {
		v.private = true
	}
}

// exportLine is export and unexport with names, or for all variables.
func (k *maker) exportLine(yes bool, rest string) {
	if rest == "" {
		k.exports = yes
		return
	}
	how := exportNo
	if yes {
		how = exportYes
	}
	for _, name := range words(k.expand(rest)) {
		v := k.global.vars[name]
		if v == nil {
			v = k.set(k.global, name, "", false, fromFile)
		}
		v.export = how
	}
}

// includeLine reads other Makefiles.
func (k *maker) includeLine(rest string, optional bool) {
	text := k.expand(rest)
	k.recordRule()
	if k.Judge.unknown(text) {
		k.Judge.refuse(k, "which Makefiles are included is known only when it runs")
		return
	}
	at := k.loc
	for _, name := range words(text) {
		names := []string{name}
		if found := k.glob(name); len(found) > 0 && (isGlob(name) || strings.HasPrefix(name, "~")) {
			names = found
		}
		for _, n := range names {
			k.loc = at
			k.readMakefile(n, optional, true)
		}
	}
	k.loc = at
}
