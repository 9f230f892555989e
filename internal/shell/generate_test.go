package shell

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// maker makes scripts such as builds have, of a grammar. The choices are those of a source of numbers.
type maker struct {
	r     *rand.Rand
	depth int
	piped int // within a pipeline: no file is written, since the parts race
	files int
	loops int
	funcs int
}

func (m *maker) pick(all ...string) string { return all[m.r.IntN(len(all))] }

func (m *maker) chance(n int) bool { return m.r.IntN(n) == 0 }

func (m *maker) script() string {
	var b strings.Builder
	b.WriteString(m.pick("", "", "", "set -e; ", "set -u; ", "set -eu\n", "set -ex; ", "a=1; ", "a='x y'; b=; ", "set -- p 'q r' s; ", "f() { return 3; }; ",
		"IFS=:; ", "trap 'echo end $?' EXIT; ", "set -f; ", "printf 'one\\ntwo words\\nthree:x\\n' > in; mkdir d; touch d/k.go d/l.go; "))
	for range 1 + m.r.IntN(4) {
		b.WriteString(m.list())
		b.WriteString(m.pick("; ", "\n", "; "))
	}
	return b.String()
}

func (m *maker) list() string {
	s := m.andOr()
	if m.chance(4) {
		s += "; " + m.andOr()
	}
	return s
}

func (m *maker) andOr() string {
	s := m.pipeline()
	for m.chance(3) {
		s += m.pick(" && ", " || ") + m.pipeline()
	}
	return s
}

func (m *maker) pipeline() string {
	not := ""
	if m.chance(12) {
		not = "! "
	}
	if !m.chance(5) {
		return not + m.command()
	}
	m.piped++
	defer func() { m.piped-- }()
	return not + m.command() + " | " + m.pick("cat", "sort", "{ head -n 1; cat >/dev/null; }", "tail -n 1", "wc -l", "tr a-z A-Z", "{ read a; echo \"<$a>\"; cat >/dev/null; }", "while read a b; do echo \"$b-$a\"; done",
		"(cat; exit 3)", "{ read x; cat >/dev/null; }", "{ "+m.command()+"; cat >/dev/null; }")
}

func (m *maker) command() string {
	m.depth++
	defer func() { m.depth-- }()
	if m.depth > 4 || m.chance(2) {
		return m.simple()
	}
	switch m.r.IntN(12) {
	case 0:
		return "(" + m.list() + ")" + m.redirect()
	case 1:
		return "{ " + m.list() + "; }" + m.redirect()
	case 2:
		return "if " + m.list() + "; then " + m.list() + m.pick("", "; else "+m.list(), "; elif "+m.test()+"; then "+m.list()) + "; fi"
	case 3:
		m.loops++
		defer func() { m.loops-- }()
		return "for " + m.name() + " in " + m.words(3) + "; do " + m.list() + "; done" + m.redirect()
	case 4:
		m.loops++
		defer func() { m.loops-- }()
		i := fmt.Sprintf("i%d", m.loops) // of its own, so that the loop ends
		return i + "=0; while [ $" + i + " -lt 3 ]; do " + i + "=$((" + i + "+1)); " + m.list() + "; done"
	case 5:
		return "case " + m.word() + " in " + m.pattern() + ") " + m.list() + ";; " + m.pattern() + "|" + m.pattern() + ") " + m.list() + ";; *) echo other;; esac"
	case 6:
		f := m.pick("f", "g")
		m.funcs++
		body := m.list()
		m.funcs--
		return f + "() { " + body + "; }; " + f + " " + m.words(3)
	case 7:
		return "eval " + m.pick("'echo \"$a\"'", "'a=2; echo $a'", "\"echo $a\"", "false", "'exit 4'", "':'")
	case 8:
		return m.test()
	}
	return m.simple()
}

func (m *maker) test() string {
	return m.pick("", "! ") + "[ " + m.pick(
		m.word()+" = "+m.word(), "\"$"+m.name()+"\" != "+m.word(), "-n "+m.word(), "-z "+m.word(), "-f in", "-d d", "-e nosuch", "$# -gt 1", "1 -eq "+m.pick("1", "2", "$n", "\"$a\""),
		m.word(), "-n "+m.word()+" -a -z "+m.word(), "a = a -o "+m.word()+" = b", m.word()+" "+m.word(), m.word()+" == "+m.word()) + " ]"
}

func (m *maker) simple() string {
	s := m.pick(
		"echo "+m.words(3), "echo "+m.words(3), "echo "+m.words(3), "echo -n "+m.words(2), "echo -e "+m.words(2), "printf '%s\\n' "+m.words(2), "printf '%s-%s|' "+m.words(3),
		"printf '%5s|%-4s|%.2s\\n' "+m.words(2), "printf '%d %03d\\n' "+m.pick("1 2", "7", "-1 010", "0x1f 3"), "printf "+m.word(), "printf '%b' "+m.word(),
		m.name()+"="+m.value(), m.name()+"="+m.value(), m.name()+"="+m.value()+" "+m.name()+"="+m.value(), "export "+m.name()+"="+m.value(), m.name()+"="+m.value()+" env | grep '^[abx]='",
		m.name()+"="+m.value()+" "+m.pick(":", "true", "f", "eval 'echo $a'"), "true", "false", ":", "f "+m.words(2), "unset "+m.name(), "set -- "+m.words(3), "shift",
		"cd d", "cd ..", "cat in", "cat nosuch", "nosuch "+m.word(), "cat <<E\nx $a ${b:-c} $(echo d) \\$ \\a \"q\"\nE\n:", "cat <<'E'\nx $a\nE\n:", "read a < in", "read a b <<E\n"+m.pick("1 2 3", "  x  ", "a\\ b c", "x:y:z", "")+"\nE\n:",
		"exit "+m.pick("0", "1", "3"), "return "+m.pick("", "2"), m.pick("break", "continue", ":"), "set "+m.pick("-e", "+e", "-u", "-x", "+x", "-f", "+f"), "trap 'echo t' EXIT", "(exit "+m.pick("0", "2")+")",
		"local "+m.name()+"="+m.value(), "local "+m.name(), "command echo "+m.word(), "command -v nosuch", "echo \"$*\" $# \"$@\"", "for i in \"$@\"; do echo \"<$i>\"; done", "for i in "+m.words(2)+"; do echo \"<$i>\"; done",
		"pwd | tail -c 2", "test "+m.word(), "sh -c 'exit 3'", "readonly r="+m.value())
	return s + m.redirect()
}

func (m *maker) redirect() string {
	if !m.chance(6) {
		return ""
	}
	m.files++
	out := fmt.Sprintf("out%d", m.files)
	if m.piped > 0 {
		out = "/dev/null"
	}
	return " " + m.pick("> "+out, ">> "+out, "2>/dev/null", "2>&1", ">&2", "< in", "> "+out+" 2>&1", "< nosuch", "</dev/null", "2> "+out, ">| "+out, "> /nosuchfolder/x", "3>&1 >&2")
}

func (m *maker) name() string { return m.pick("a", "b", "x", "n") }

func (m *maker) words(n int) string {
	var all []string
	for range m.r.IntN(n + 1) {
		all = append(all, m.word())
	}
	return strings.Join(all, " ")
}

func (m *maker) value() string {
	return m.pick("", "1", "'x y'", "\"$a\"", "$a", "$b$a", "~", "a:~", "$(echo sub)", "`echo bq`", "$((1+2))", "\"a\\nb\"", "'a\\tb'", "/p/q.tar.gz", "$1", "\"$@\"", "$*", "''", "a=b", "*", "-n", "$(false)", "$(echo a; exit 2)",
		"\" lead trail \"", "x:y::z", "'*.go'", "abcabc", "\\\\", "\"\\\\\"", "$?")
}

func (m *maker) word() string {
	return m.pick("foo", "a", "b", "x", "''", "\"\"", "'q r'", "\"$"+m.name()+"\"", "$"+m.name(), "${"+m.name()+"}", "\"${"+m.name()+":-dflt}\"", "${"+m.name()+":-d e}", "${"+m.name()+":+alt}", "${"+m.name()+"-u}", "${"+m.name()+":=asgn}",
		"${"+m.name()+"#*/}", "${"+m.name()+"##*/}", "${"+m.name()+"%.*}", "${"+m.name()+"%%.*}", "\"${"+m.name()+"%x}\"", "${#"+m.name()+"}", "$(echo s t)", "\"$(echo s  t)\"", "`echo u`", "$((n+1))", "$((2*3))", "$(( $n - 1 ))", "\"a\\tb\"", "'c\\nd'", "\\\\", "a\\ b", "\"\\$a\"",
		"~", "~/x", "*", "d/*", "d/*.go", "'*'", "\\*", "[a]", "?", "$1", "$#", "$?", "\"$@\"", "\"$*\"", "$@", "$*", "{a,b}", "a=b", "-n", "-e", "--", "!", "=", "1", "\"pre${a}post\"", "x$a\"y z\"$b", "$(false)", "$(exit 3)", "\"$(cat nosuch 2>/dev/null)\"", "\"\\\\n\"", "'\\\\'", "\"'\"", "'\"'",
		"${a:+\"p q\"}", "\"${a:+$b}\"", "$a$b", "\"$a\"'$b'", "#", "a#b", "%s", "'%d\\n'", "\"it's\"", "${b:-$(echo cs)}", "${b:-${a:-z}}", "x:y",
		"${"+m.name()+":1:2}", "\"${"+m.name()+":2}\"", "${"+m.name()+"/b/x y}", "\"${"+m.name()+"//a/}\"")
}

func (m *maker) pattern() string {
	return m.pick("foo", "a*", "*b", "?", "[ab]", "[!a]*", "'*'", "\"$a\"", "$a", "x|y", "''", "*.go", "[0-9]", "\\*", "*o*")
}

// compareGenerated makes a script and compares. Standard error is compared without order: the parts of a pipeline write at the same time.
func compareGenerated(t *testing.T, o *oracle, seed uint64) (served bool) {
	t.Helper()
	m := &maker{r: rand.New(rand.NewPCG(seed, 1))}
	script := m.script()
	got, refused := ours(t, o, script)
	if refused != nil {
		return false
	}
	want := o.run(t, script)
	sorted := func(s string) string {
		b := []byte(s)
		slices.Sort(b)
		return string(b)
	}
	gotErr, wantErr := got.Err, want.Err
	got.Err, want.Err = sorted(got.Err), sorted(want.Err)
	if !same(got, want) {
		got.Err, want.Err = gotErr, wantErr
		t.Errorf("seed %d of %s:\n%s\n real %s\n ours %s", seed, o.variant, script, show(want), show(got))
	}
	return true
}

// generated is how many scripts [TestGenerated] makes for each shell.
const generated = 200

// TestGenerated compares scripts of the grammar with the real shells of this machine.
func TestGenerated(t *testing.T) {
	for _, v := range []Variant{Dash, Ash, Bash} {
		t.Run(string(v), func(t *testing.T) {
			o, live := findOracle(v)
			switch {
			case !live && os.Getenv("CI") != "":
				t.Fatalf("%s is not installed", v)
			case !live:
				t.Skipf("%s is not installed", v)
			}
			served := 0
			for seed := range uint64(generated) {
				if compareGenerated(t, o, seed) {
					served++
				}
			}
			if t.Logf("%d of %d served", served, generated); served < generated/3 {
				t.Errorf("%d of %d are served: the grammar says little", served, generated)
			}
		})
	}
}

// FuzzGenerated is [TestGenerated] without an end.
func FuzzGenerated(f *testing.F) {
	f.Add(uint64(1), true)
	f.Fuzz(func(t *testing.T, seed uint64, dash bool) {
		v := Ash
		if dash {
			v = Dash
		}
		o, live := findOracle(v)
		if !live {
			t.Skipf("%s is not installed", v)
		}
		compareGenerated(t, o, seed)
	})
}
