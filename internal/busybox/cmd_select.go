package busybox

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// sortKey is -k FIRST[,LAST] with the letters n and r.
type sortKey struct {
	first, last      int // from 1; last 0: the end of the line
	numeric, reverse bool
}

func parseKey(text string) (sortKey, error) {
	var k sortKey
	first, last, _ := strings.Cut(text, ",")
	for i, part := range []string{first, last} {
		digits := strings.TrimRight(part, "nr")
		k.numeric = k.numeric || strings.Contains(part[len(digits):], "n")
		k.reverse = k.reverse || strings.Contains(part[len(digits):], "r")
		if i == 1 && digits == "" {
			continue
		}
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 {
			return k, fmt.Errorf("the key %s is not served", text)
		}
		if i == 0 {
			k.first = n
		} else {
			k.last = n
		}
	}
	return k, nil
}

// of is the part of a line that a key names. Without a separator a field begins with the blanks before it.
func (k sortKey) of(line, sep string) string {
	var ends []int // of each field
	if sep != "" {
		for i := range len(line) {
			if line[i] == sep[0] {
				ends = append(ends, i)
			}
		}
	} else {
		for i := 1; i < len(line); i++ {
			if (line[i] == ' ' || line[i] == '\t') && line[i-1] != ' ' && line[i-1] != '\t' {
				ends = append(ends, i)
			}
		}
	}
	from, to := 0, len(line)
	if k.first > 1 {
		if k.first-2 >= len(ends) {
			return ""
		}
		from = ends[k.first-2] + len(sep)
	}
	if k.last > 0 && k.last-1 < len(ends) {
		to = ends[k.last-1]
	}
	return line[from:max(from, to)]
}

// plainVersion are versions of which every sort -V says the same.
var plainVersion = regexp.MustCompile(`^(v|go)?[0-9]+(\.[0-9]+)*$`)

func sortLines(c *call) int {
	var all []string
	code := c.eachLine(func(line string) error {
		all = append(all, strings.TrimSuffix(line, "\n"))
		return nil
	})
	if code != 0 {
		code = 2
		if c.variant() == Alpine {
			code = 1
		}
		return code
	}
	sep := c.opt.value("t")
	if len(sep) > 1 || c.opt.has("t") && sep == "" {
		return c.unserved("the separator is not served")
	}
	var keys []sortKey
	for _, text := range c.opt.val["k"] {
		k, err := parseKey(text)
		if err != nil {
			return c.unserved("%v", err)
		}
		if !k.numeric && !k.reverse { // a key without letters has the options'
			k.numeric, k.reverse = c.opt.has("n"), c.opt.has("r")
		}
		keys = append(keys, k)
	}
	if c.variant() == Alpine && c.opt.has("u") && (c.opt.has("n") || c.opt.has("f") || len(keys) > 0) {
		return c.unserved("-u with -n, -f or -k is not served: which of several lines stays is BusyBox's own")
	}
	if len(keys) == 0 {
		keys = []sortKey{{first: 1, numeric: c.opt.has("n"), reverse: c.opt.has("r")}}
	} else if c.opt.has("V") || c.opt.has("f") {
		return c.unserved("-k with -V or -f is not served")
	}
	compare := func(a, b string) int {
		for _, k := range keys {
			x, y := k.of(a, sep), k.of(b, sep)
			n := 0
			switch {
			case k.numeric:
				n = cmp.Compare(leadingNumber(x), leadingNumber(y))
			case c.opt.has("V"):
				if !plainVersion.MatchString(x) || !plainVersion.MatchString(y) {
					c.unserved("-V of other than plain versions is not served")
				}
				n = compareVersions(x, y)
			case c.opt.has("f"):
				n = strings.Compare(upper(x), upper(y))
			default:
				n = strings.Compare(x, y)
			}
			if k.reverse {
				n = -n
			}
			if n != 0 {
				return n
			}
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b string) int {
		n := compare(a, b)
		if n == 0 && !c.opt.has("u") && !c.opt.has("s") {
			if n = strings.Compare(a, b); c.opt.has("r") {
				n = -n
			}
		}
		return n
	})
	if c.opt.has("u") {
		all = slices.CompactFunc(all, func(a, b string) bool { return compare(a, b) == 0 })
	}
	out := c.stdout
	if name := c.opt.value("o"); name != "" {
		f, err := os.Create(c.abs(name))
		if err != nil {
			return c.unserved("%v", err)
		}
		defer f.Close()
		out = f
	}
	for _, line := range all {
		fmt.Fprintln(out, line)
	}
	return code
}

// upper is ASCII's upper case alone.
func upper(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}

func leadingNumber(s string) float64 {
	s = strings.TrimLeft(s, " \t")
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.' || end == 0 && s[end] == '-') {
		end++
	}
	n, err := strconv.ParseFloat(s[:end], 64)
	if err != nil && !math.IsInf(n, 0) {
		return 0
	}
	return n
}

// compareVersions compares runs of digits as numbers, and all else as text.
func compareVersions(a, b string) int {
	digits := func(s string) int {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	for a != "" && b != "" {
		i, j := digits(a), digits(b)
		if i > 0 && j > 0 {
			x, y := strings.TrimLeft(a[:i], "0"), strings.TrimLeft(b[:j], "0")
			if n := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); n != 0 {
				return n
			}
			a, b = a[i:], b[j:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// span is a range of cut -f: 1-based, inclusive.
type span struct{ from, to int }

func parseSpans(text string) ([]span, error) {
	var spans []span
	for _, part := range strings.Split(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		s := span{1, math.MaxInt}
		var err error
		if first != "" {
			s.from, err = strconv.Atoi(first)
		}
		if err == nil && last != "" {
			s.to, err = strconv.Atoi(last)
		}
		if !isRange {
			s.to = s.from
		}
		if err != nil || s.from < 1 || first == "" && last == "" {
			return nil, fmt.Errorf("invalid list '%s'", text)
		}
		spans = append(spans, s)
	}
	return spans, nil
}

func cut(c *call) int {
	lists := 0
	for _, f := range []string{"f", "c", "b"} {
		lists += len(c.opt.val[f])
	}
	if lists != 1 || len(c.opt.value("d")) != 1 && c.opt.has("d") {
		return c.unserved("these options together are not served")
	}
	byField := c.opt.has("f")
	if !byField && (c.opt.has("s") || c.opt.has("d")) {
		return c.unserved("-s and -d without -f are not served")
	}
	spans, err := parseSpans(c.opt.value("f") + c.opt.value("c") + c.opt.value("b"))
	if err != nil {
		return c.unserved("%v", err)
	}
	lastField := 0
	for _, s := range spans {
		lastField = max(lastField, s.from)
	}
	sep := "\t"
	if c.opt.has("d") {
		sep = c.opt.value("d")
	}
	in := func(n int) bool {
		return slices.ContainsFunc(spans, func(s span) bool { return s.from <= n && n <= s.to })
	}
	return c.eachLine(func(line string) error {
		line = strings.TrimSuffix(line, "\n")
		if !byField {
			var keep []byte
			for i := range len(line) {
				if in(i + 1) {
					keep = append(keep, line[i])
				}
			}
			fmt.Fprintf(c.stdout, "%s\n", keep)
			return nil
		}
		if c.variant() == Alpine && (line == "" && c.opt.has("s") || len(spans) > 1 && strings.Count(line, sep) < lastField-1 && strings.Contains(line, sep)) {
			c.unserved("-s of an empty line, and a field that a line has not beside one that it has, are BusyBox's own")
		}
		if !strings.Contains(line, sep) {
			if !c.opt.has("s") {
				fmt.Fprintln(c.stdout, line)
			}
			return nil
		}
		var keep []string
		for i, u := range strings.Split(line, sep) {
			if in(i + 1) {
				keep = append(keep, u)
			}
		}
		fmt.Fprintln(c.stdout, strings.Join(keep, sep))
		return nil
	})
}

// trClasses are the classes of characters that tr takes.
var trClasses = map[string]string{
	"upper": "A-Z", "lower": "a-z", "digit": "0-9", "alpha": "A-Za-z", "alnum": "0-9A-Za-z", "space": "\t-\r ", "blank": "\t ",
	"punct": "!-/:-@\\[-`{-~",
}

// expandSet expands an operand of tr: ranges, escapes and POSIX's classes.
func expandSet(s string) ([]byte, error) {
	var out []byte
	next := func() (byte, error) { // one character
		c := s[0]
		s = s[1:]
		if c != '\\' || s == "" {
			return c, nil
		}
		if s[0] >= '0' && s[0] <= '7' {
			n := 0
			for n < len(s) && n < 3 && s[n] >= '0' && s[n] <= '7' {
				n++
			}
			v, err := strconv.ParseUint(s[:n], 8, 8)
			s = s[n:]
			return byte(v), err
		}
		e, ok := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '\\': '\\', '[': '[', ']': ']', '-': '-', 'f': '\f', 'v': '\v', 'a': '\a', 'b': '\b'}[s[0]]
		if !ok {
			return 0, fmt.Errorf("the escape \\%c is not served", s[0])
		}
		s = s[1:]
		return e, nil
	}
	for s != "" {
		if s[0] == '[' && len(s) > 1 {
			if name, rest, ok := strings.Cut(strings.TrimPrefix(s, "[:"), ":]"); ok && strings.HasPrefix(s, "[:") {
				chars, ok := trClasses[name]
				if !ok {
					return nil, fmt.Errorf("the class %s is not served", name)
				}
				set, err := expandSet(chars)
				if err != nil {
					return nil, err
				}
				out, s = append(out, set...), rest
				continue
			}
			if s[1] == '=' || s[1] == '.' || len(s) > 2 && (s[2] == '*' || s[2] == '-') {
				return nil, errors.New("a [ in a set is not served")
			}
		}
		if s[0] >= 0x80 {
			return nil, errors.New("a set beyond ASCII is not served")
		}
		c, err := next()
		if err != nil {
			return nil, err
		}
		if len(s) > 1 && s[0] == '-' {
			s = s[1:]
			last, err := next()
			if err != nil || last < c {
				return nil, errors.New("the range is not served")
			}
			for x := int(c); x <= int(last); x++ {
				out = append(out, byte(x))
			}
			continue
		}
		out = append(out, c)
	}
	return out, nil
}

// translation is what tr does to each byte.
type translation struct {
	drop, squeeze [256]bool
	to            [256]byte
}

func parseTr(o options) (*translation, error) {
	t := &translation{}
	for i := range t.to {
		t.to[i] = byte(i)
	}
	remove, squeeze, complement := o.has("d"), o.has("s"), o.has("c") || o.has("C")
	want := 2
	if remove || squeeze {
		want = 1
	}
	if remove && squeeze || len(o.args) < want || len(o.args) > 2 || remove && len(o.args) > 1 {
		return nil, errors.New("these options and operands together are not served")
	}
	set, err := expandSet(o.args[0])
	if err != nil {
		return nil, err
	}
	var in [256]bool
	for _, b := range set {
		in[b] = true
	}
	if complement {
		set = nil
		for i := range in {
			if in[i] = !in[i]; in[i] {
				set = append(set, byte(i))
			}
		}
	}
	switch {
	case remove:
		t.drop = in
		return t, nil
	case len(o.args) == 1:
		t.squeeze = in
		return t, nil
	}
	to, err := expandSet(o.args[1])
	if err != nil {
		return nil, err
	}
	if len(to) == 0 || complement && len(to) > 1 {
		return nil, errors.New("the second set is not served")
	}
	for i, b := range set {
		t.to[b] = to[min(i, len(to)-1)]
		if squeeze {
			t.squeeze[t.to[b]] = true
		}
	}
	return t, nil
}

func checkTr(_ Variant, args []Value) string {
	texts, all := known(args)
	if !all {
		return ""
	}
	o, err := parseOptions(commands()["tr"], texts)
	if err == nil {
		_, err = parseTr(o)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func tr(c *call) int {
	t, err := parseTr(c.opt)
	if err != nil {
		return c.unserved("%v", err)
	}
	buf := make([]byte, 8<<10)
	last := -1
	for {
		n, err := c.stdin.Read(buf)
		out := buf[:0]
		for _, b := range buf[:n] {
			if t.drop[b] {
				continue
			}
			b = t.to[b]
			if t.squeeze[b] && last == int(b) {
				continue
			}
			last = int(b)
			out = append(out, b)
		}
		if _, err := c.stdout.Write(out); err != nil {
			return c.fail(1, "%v", err)
		}
		switch {
		case err == io.EOF:
			return 0
		case err != nil:
			return c.fail(1, "%v", err)
		}
	}
}
