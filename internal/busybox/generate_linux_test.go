package busybox

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// commandMaker makes calls of text commands, of a grammar.
type commandMaker struct{ r *rand.Rand }

func (m commandMaker) pick(all ...string) string { return all[m.r.IntN(len(all))] }

func (m commandMaker) number() string { return m.pick("0", "1", "2", "3", "5", "10") }

func (m commandMaker) data() string {
	return m.pick(`one\ntwo\nthree\n`, `a:b:c\nd:e\nf\n:x:\n`, `b 2\na 10\nc 1\na 2\n`, `aaa\nabab\n\nxyz\n`, `last line`, `1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n`, ``, `\n`,
		`  lead\n\ttab\ttab\ntrail  \n`, `v1.2.3\nv1.10.0\nv1.9\n`, `go version go1.26.8 linux/amd64\n`, `x=1\ny = 2\n# comment\n\n[sec]\n`, `a\na\nb\nb\na\n`, `foo.go\nbar_test.go\nbaz.txt\n`,
		`10\n9\n-1\n2.5\n`, `A\nb\nC\n`, `a/b/c\n/x/y\n`, `"q" 'r'\n`)
}

func (m commandMaker) expression() string {
	return m.pick("a", "b", "o", "t.o", "^a", "b$", "^$", "[ab]", "[^a]", "[0-9]", "[0-9]*", "a*", "x*", "ab*", ".*", "^.", ".$", "[[:space:]]", "[[:alpha:]]*", `\.`, "one", "e", `[a-z]*:`, "=", " *", `a\{2\}`, `\(a\)\(b\)`, `\(a*\)`, `\(.*\):\(.*\)`, `a\|b`,
		`a\+`, `ab\?`, "v", "1", ":", `[.]`, `[]x]`, `^#`, `"`, `/`)
}

func (m commandMaker) extended() string {
	return m.pick("a", "(a|b)", "a+", "a{2}", "^(one|two)$", "[0-9]+", "(a)(b)?", "b?c", "o|e", "^[a-z]+", "a{1,2}", "(ab)+", `\.`, "(.*):(.*)", "x*", "()", "[[:digit:]]+$", "(^|:)x")
}

func (m commandMaker) address() string {
	return m.pick("", "", "", "1", "2", "$", "2,3", "2,$", "/a/", "/e/,/x/", "1,/b/", "/a/!", "2!", "3,1", "/^$/", "$!", "5,2")
}

func (m commandMaker) sedScript() string {
	one := func(ext bool) string {
		re := m.expression
		if ext {
			re = m.extended
		}
		if m.r.IntN(3) > 0 {
			d := m.pick("/", "/", ",", "#")
			expression := strings.ReplaceAll(re(), d, `\`+d)
			if d == "#" || d == "," {
				expression = strings.ReplaceAll(expression, `{1\,2}`, "a")
			}
			return m.address() + "s" + d + expression + d + m.pick("", "X", "&&", "[&]", `\n`, "z", `\&`, "a b") + d + m.pick("", "g", "2", "p", "gp")
		}
		return m.address() + m.pick("d", "p", "=", "q", "N", "n", "G", "h", "H", "x", "g", "P", "D", "y/abc/xyz/", "{p;p}", "{s/a/b/;p}", "!d")
	}
	ext := m.r.IntN(4) == 0
	script := one(ext)
	for m.r.IntN(3) == 0 {
		script += ";" + one(ext)
	}
	return "sed " + m.pick("", "-n ", "") + map[bool]string{true: "-E ", false: ""}[ext] + "'" + strings.ReplaceAll(script, "'", "") + "'"
}

func (m commandMaker) command() string {
	switch m.r.IntN(10) {
	case 0:
		return m.pick("head", "tail") + " " + m.pick("-n "+m.number(), "-n"+m.number(), "-"+m.number(), "-c "+m.number(), "-n +"+m.number(), "-n -"+m.number(), "")
	case 1:
		return "cut " + m.pick("-d: -f1", "-d: -f2", "-d: -f2-", "-d: -f-2", "-d ' ' -f1", "-f1", "-f2", "-c1", "-c2-3", "-c-2", "-b1-2", "-d: -f1,3", "-d: -f3,1", "-s -d: -f2", "-d= -f2", "-c1,3-4")
	case 2:
		return "tr " + m.pick("a b", "a-z A-Z", "-d a", "-d '\\n'", "-s a", "-s ' '", "'[:lower:]' '[:upper:]'", "-cd 'a-z\\n'", "-d '[:space:]'", "'\\n' ' '", "abc x", "ab xyz", "-c a-z x", "-s a-z", "-s ab xy", ": '\\n'", "-d '\"'", "a-c d-f", "/ -", "-dc 0-9")
	case 3:
		return "sort " + m.pick("", "-n", "-r", "-u", "-k2", "-k2n", "-k2 -n", "-t: -k2", "-t: -k2,2", "-k1,1", "-k1,1 -k2n", "-nr", "-f", "-un", "-k2,2r", "-V", "-rn -k2", "-s -k1,1", "-t: -k2r", "-ru", "-fu")
	case 4:
		return "uniq " + m.pick("", "-c", "-d", "-u", "-cd")
	case 5:
		return "wc " + m.pick("", "-l", "-w", "-c", "-lw", "-lc")
	case 6:
		return "grep " + m.pick("", "-v ", "-c ", "-n ", "-o ", "-i ", "-x ", "-q ", "-m1 ", "-vn ", "-oi ") + m.pick("'"+m.expression()+"'", "-E '"+m.extended()+"'", "-F '"+m.pick("a", ".", "a.b", ":", "")+"'", "-e '"+m.expression()+"' -e b", "-w "+m.pick("a", "one", "x")) + "; echo $?"
	case 7, 8:
		return m.sedScript()
	}
	return m.pick("cat -n", "rev", "base64", "md5sum", "xargs", "xargs -n1", "xargs -n 2 echo x", "xargs -I{} echo '<{}>'", "tee f", "cat", "sha256sum")
}

// TestGeneratedCommands compares calls of text commands with Debian 12's commands and with busybox, where this machine has them.
func TestGeneratedCommands(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the base's root is root's")
	}
	version, _ := os.ReadFile("/etc/debian_version") // none: another system
	busybox, err := exec.LookPath("busybox")
	for v, o := range map[Variant]struct {
		program string
		have    bool
	}{Debian: {"/usr/bin/dash", strings.HasPrefix(string(version), "12.")}, Alpine: {busybox, err == nil}} {
		t.Run(string(v), func(t *testing.T) {
			if !o.have {
				if os.Getenv("CI") != "" {
					t.Fatalf("%s's commands are not on this machine", v)
				}
				t.Skipf("%s's commands are not on this machine", v)
			}
			served := 0
			const many = 150
			for seed := range uint64(many) {
				m := commandMaker{rand.New(rand.NewPCG(seed, 2))}
				script := fmt.Sprintf("printf '%s' | %s", strings.ReplaceAll(m.data(), "'", `'"'"'`), m.command())
				got, refused := inBase(t, v, script)
				if refused != nil {
					continue
				}
				served++
				if want := inImage(t, "/", o.program, script); !sameOutcome(want, got) {
					t.Errorf("%s\n real %s\n base %s", script, shownOutcome(want), shownOutcome(got))
				}
			}
			if t.Logf("%d of %d served", served, many); served < many/2 {
				t.Errorf("%d of %d are served: the grammar says little", served, many)
			}
		})
	}
}
