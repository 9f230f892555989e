package shell

import (
	"os"
	"strconv"
	"strings"
)

// test is test and [. The grammar is dash's, which BusyBox's comes from: POSIX's rules for few arguments first, then -o, -a, ! and parentheses.
func test(in *interp, args []string, _ bool) (status int) {
	name := args[0]
	args = args[1:]
	if name == "[" {
		if len(args) == 0 || args[len(args)-1] != "]" {
			in.unserved("[", "without ] is not served")
		}
		args = args[:len(args)-1]
	}
	t := &tester{in: in, name: name}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case testError:
			if in.Variant == Bash {
				in.unserved(name, "%s", string(p))
			}
			t.complain(string(p))
			status = 2
		default:
			panic(p)
		}
	}()
	return t.run(args)
}

// testError ends a test by exit code 2.
type testError string

type tester struct {
	in   *interp
	name string
	args []string
	at   int
}

func (t *tester) complain(text string) {
	if t.in.Variant == Ash {
		t.in.toStderr(base(t.in.Name) + ": " + text + "\n")
		return
	}
	t.in.complain("%s", text)
}

func (in *interp) toStderr(text string) {
	if w := in.fds.writer(2); w != nil {
		_, _ = w.Write([]byte(text)) // nobody to tell
	}
}

func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

var binaryTests = map[string]bool{
	"=": true, "!=": true, "<": true, ">": true, "-eq": true, "-ne": true, "-gt": true, "-ge": true, "-lt": true, "-le": true,
	"-nt": true, "-ot": true, "-ef": true,
}

const unaryTests = "bcdefghknprstuwxzGLOS"

func (t *tester) binary(s string) bool { return binaryTests[s] || s == "==" && t.in.Variant != Dash }

func unaryTest(s string) bool {
	return len(s) == 2 && s[0] == '-' && strings.IndexByte(unaryTests, s[1]) >= 0
}

func (t *tester) operator(s string) bool {
	return t.binary(s) || unaryTest(s) || s == "!" || s == "-a" || s == "-o" || s == "(" || s == ")"
}

func (t *tester) run(args []string) int {
	negated := false
	for {
		if len(args) == 0 {
			return status(negated)
		}
		if t.in.Variant != Dash && len(args) > 4 {
			for _, a := range args {
				if a == "(" || a == "!" || a == "" || a == ")" {
					t.in.unserved("test", "with as many arguments is not served")
				}
			}
		}
		direct := false
		if len(args) == 3 && t.binary(args[1]) {
			direct = true
		} else if len(args) == 3 || len(args) == 4 {
			if args[0] == "(" && args[len(args)-1] == ")" {
				args = args[1 : len(args)-1]
			} else if args[0] == "!" {
				negated = !negated
				args = args[1:]
				continue
			}
		}
		t.args, t.at = args, 0
		var ok bool
		if direct {
			ok = t.compare()
		} else {
			ok = t.or(t.lex(0))
		}
		if t.at < len(t.args) && t.at+1 < len(t.args) {
			if t.in.Variant == Ash {
				panic(testError(t.args[t.at+1] + ": unknown operand"))
			}
			panic(testError(strings.TrimPrefix(t.args[t.at]+": unexpected operator", ": ")))
		}
		return status(ok != negated)
	}
}

func status(ok bool) int {
	if ok {
		return 0
	}
	return 1
}

// lex is the operator at a place; "" for an operand, "end" after the last.
func (t *tester) lex(i int) string {
	if i >= len(t.args) {
		return "end"
	}
	s := t.args[i]
	if !t.operator(s) {
		return ""
	}
	if unaryTest(s) && t.operand(i) || s == "(" && i+1 >= len(t.args) {
		return ""
	}
	return s
}

// operand reports whether what looks like a unary operator is an operand.
func (t *tester) operand(i int) bool {
	if i+1 >= len(t.args) {
		return true
	}
	if i+2 >= len(t.args) {
		return false
	}
	return t.binary(t.args[i+1])
}

func (t *tester) or(op string) bool {
	ok := false
	for {
		ok = t.and(op) || ok
		if t.lex(t.at+1) != "-o" {
			return ok
		}
		t.at += 2
		op = t.lex(t.at)
		if op == "end" {
			t.in.unserved("test", "an expression is missing")
		}
	}
}

func (t *tester) and(op string) bool {
	ok := true
	for {
		ok = t.not(op) && ok
		if t.lex(t.at+1) != "-a" {
			return ok
		}
		t.at += 2
		op = t.lex(t.at)
		if op == "end" {
			t.in.unserved("test", "an expression is missing")
		}
	}
}

func (t *tester) not(op string) bool {
	if op == "!" {
		t.at++
		return !t.not(t.lex(t.at))
	}
	return t.primary(op)
}

func (t *tester) primary(op string) bool {
	switch {
	case op == "end":
		return false
	case op == "(":
		t.at++
		inner := t.lex(t.at)
		if inner == ")" {
			return false
		}
		ok := t.or(inner)
		t.at++
		if t.lex(t.at) != ")" {
			panic(testError("closing paren expected"))
		}
		return ok
	case unaryTest(op):
		t.at++
		if t.at >= len(t.args) {
			panic(testError(op + ": argument expected"))
		}
		return t.unary(op[1], t.args[t.at])
	}
	if t.at+1 < len(t.args) && t.binary(t.args[t.at+1]) {
		return t.compare()
	}
	if t.at >= len(t.args) {
		return false
	}
	return t.args[t.at] != ""
}

// compare is a binary test whose first operand is at t.at.
func (t *tester) compare() bool {
	x, op := t.args[t.at], t.args[t.at+1]
	t.at += 2
	if t.at >= len(t.args) {
		panic(testError(op + ": argument expected"))
	}
	y := t.args[t.at]
	switch op {
	case "=", "==":
		return x == y
	case "!=":
		return x != y
	case "<":
		return x < y
	case ">":
		return x > y
	case "-nt", "-ot", "-ef":
		return t.files(op, x, y)
	}
	m, n := t.number(x), t.number(y)
	switch op {
	case "-eq":
		return m == n
	case "-ne":
		return m != n
	case "-gt":
		return m > n
	case "-ge":
		return m >= n
	case "-lt":
		return m < n
	}
	return m <= n
}

func (t *tester) files(op, x, y string) bool {
	a, aErr := os.Stat(t.in.abs(x))
	b, bErr := os.Stat(t.in.abs(y))
	if aErr != nil || bErr != nil {
		if op == "-ef" || t.in.Variant == Dash {
			return false
		}
		t.in.unserved(op, "of a file that is missing is not served")
	}
	switch op {
	case "-ef":
		return os.SameFile(a, b)
	case "-nt":
		return a.ModTime().After(b.ModTime())
	}
	return a.ModTime().Before(b.ModTime())
}

func (t *tester) number(s string) int64 {
	n, err := strconv.ParseInt(strings.Trim(s, " \t\n"), 10, 64)
	if err == nil && !strings.Contains(s, "_") {
		return n
	}
	if t.in.Variant == Dash {
		panic(testError("Illegal number: " + s))
	}
	if digits := strings.Trim(s, " \t\n"); digits != "" && strings.Trim(digits, "+-0123456789") == "" {
		t.in.unserved(s, "is no number that test is served with")
	}
	if t.in.Variant == Bash {
		panic(testError(s + ": integer expression expected"))
	}
	if s == "" {
		panic(testError("out of range"))
	}
	panic(testError(s + ": out of range"))
}

func (t *tester) unary(op byte, arg string) bool {
	switch op {
	case 'z':
		return arg == ""
	case 'n':
		return arg != ""
	case 't':
		return t.terminal(arg)
	case 'r', 'w', 'x':
		mode := map[byte]uint32{'r': 4, 'w': 2, 'x': 1}[op]
		return arg != "" && access(t.in.abs(arg), mode) == nil
	}
	stat := os.Stat
	if op == 'L' || op == 'h' {
		stat = os.Lstat
	}
	if arg == "" {
		return false
	}
	if _, is := standardName(arg); is {
		t.in.unserved(arg, "is not served in test")
	}
	info, err := stat(t.in.abs(arg))
	if err != nil {
		return false
	}
	mode := info.Mode()
	switch op {
	case 'e':
		return true
	case 'f':
		return mode.IsRegular()
	case 'd':
		return mode.IsDir()
	case 's':
		return info.Size() > 0
	case 'L', 'h':
		return mode&os.ModeSymlink != 0
	case 'p':
		return mode&os.ModeNamedPipe != 0
	case 'S':
		return mode&os.ModeSocket != 0
	case 'b':
		return mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0
	case 'c':
		return mode&os.ModeCharDevice != 0
	case 'u':
		return mode&os.ModeSetuid != 0
	case 'g':
		return mode&os.ModeSetgid != 0
	case 'k':
		return mode&os.ModeSticky != 0
	}
	uid, gid := ownerOf(info)
	if op == 'O' {
		return uid == os.Geteuid()
	}
	return gid == os.Getegid()
}

// terminal is -t: a step of a build has none.
func (t *tester) terminal(arg string) bool {
	n := t.number(arg)
	if s := t.in.fds[int(n)]; s != nil {
		for _, end := range []any{s.r, s.w} {
			if f, ok := end.(*os.File); ok {
				if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
					t.in.unserved("-t", "of a device is not served")
				}
			}
		}
	}
	return false
}
