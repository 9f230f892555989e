package gnumake

// file is a target or a prerequisite.
type file struct {
	name     string
	recipe   *recipe
	deps     []*dep
	stem     string
	also     []*file // made by the same recipe
	doubles  []*file // the rules of a double-colon target, of which this is the entry
	double   bool
	vars     *varSet // of the target; nil: none
	parent   *file   // which needed it first: its variables are seen
	isTarget bool
	phony    bool
	explicit bool // named in a Makefile
	precious, intermediate, secondary, lasting, ignores, quiet,
	triedImplicit, updating, updated, fromCommand bool
	byPattern bool  // its recipe is a pattern rule's
	byPeer    bool  // the recipe was found for another target of its pattern rule
	before    stamp // when it was changed before its recipe ran
	started   bool  // lines of its recipe were run
	failed    bool
	asked     bool // -q: it would be made
	time      stamp
}

// dep is a prerequisite of a file.
type dep struct {
	name    string
	file    *file
	order   bool // order-only
	changed bool
	static  string // the stem of a static pattern, for a second expansion
	second  bool   // to be expanded once more
	builtin bool   // a suffix that is there by default
}

// recipe is the text of a rule's recipe.
type recipe struct {
	lines    []recipeLine
	unserved string // a built-in rule that is not had
}

// recipeLine is a logical line, with its backslashes and newlines.
type recipeLine struct {
	text string
	at   Location
}

// pendingRule is a rule whose recipe is being read.
type pendingRule struct {
	at        *Location
	names     []string
	deps      string
	pattern   string // of a static pattern rule
	double    bool
	grouped   bool
	hasRecipe bool
	recipe    recipe
}

// add takes a line of the recipe. Its number is that of the first line and of how many came before, as make counts.
func (r *pendingRule) add(text string, at *Location) {
	r.hasRecipe = true
	l := *at
	if len(r.recipe.lines) > 0 {
		l = r.recipe.lines[0].at
		l.Line += len(r.recipe.lines)
	}
	r.recipe.lines = append(r.recipe.lines, recipeLine{text, l})
}

// patternRule is a rule with a percent sign in its targets.
type patternRule struct {
	targets  []string
	deps     string
	recipe   *recipe
	terminal bool
	inUse    bool
	builtin  bool
	at       *Location
}

// patternVar is a variable of all targets that match a pattern.
type patternVar struct {
	pattern string
	a       assignment
	m       modified
	at      *Location
}

// table is what the Makefiles said.
type table struct {
	cancelled                         map[string]bool // pattern rules that a rule without a recipe takes away
	files                             map[string]*file
	order                             []*file
	patterns                          []*patternRule
	patternVars                       []patternVar
	second                            bool // .SECONDEXPANSION
	oneShell                          bool
	deleteOnErr                       bool
	allSecond                         bool // .SECONDARY without prerequisites
	allPrecious, allIgnore, allSilent bool
	allLasting                        bool     // .NOTINTERMEDIATE without prerequisites
	lasting                           []string // patterns of .NOTINTERMEDIATE
}

func newTable() table { return table{files: map[string]*file{}, cancelled: map[string]bool{}} }

// enter finds or makes the entry of a name.
func (k *maker) enter(name string) *file {
	f := k.files[name]
	if f == nil {
		f = &file{name: name}
		k.files[name] = f
		k.order = append(k.order, f)
	}
	return f
}
