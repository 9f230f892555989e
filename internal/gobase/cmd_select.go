package gobase

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

func sortLines(c *call) int {
	all, code := c.allLines()
	key := func(line string) string { return line }
	if k := c.opt.value("k"); k != "" {
		first, _, _ := strings.Cut(k, ",")
		n, err := strconv.Atoi(strings.TrimRight(first, "nrbdfV"))
		if err != nil || n < 1 {
			return c.fail(2, "bad field specification '%s'", k)
		}
		if strings.ContainsAny(k, "n") {
			c.opt.set["n"] = true
		}
		if strings.ContainsAny(k, "r") {
			c.opt.set["r"] = true
		}
		key = func(line string) string { return fieldFrom(line, c.opt.value("t"), n) }
	}
	compare := func(a, b string) int {
		x, y := key(a), key(b)
		if c.opt.has("f") {
			x, y = strings.ToUpper(x), strings.ToUpper(y)
		}
		switch {
		case c.opt.has("n"):
			return cmp.Compare(leadingNumber(x), leadingNumber(y))
		case c.opt.has("V"):
			return compareVersions(x, y)
		}
		return strings.Compare(x, y)
	}
	slices.SortStableFunc(all, func(a, b string) int {
		n := compare(a, b)
		if n == 0 && !c.opt.has("u") && !c.opt.has("s") {
			n = strings.Compare(a, b)
		}
		if c.opt.has("r") {
			return -n
		}
		return n
	})
	if c.opt.has("u") {
		all = slices.CompactFunc(all, func(a, b string) bool { return compare(a, b) == 0 })
	}
	for _, line := range all {
		fmt.Fprintln(c.stdout, line)
	}
	return code
}

// fieldFrom is the rest of a line from its nth field on.
func fieldFrom(line, sep string, n int) string {
	if sep == "" {
		f := strings.Fields(line)
		return strings.Join(f[min(n-1, len(f)):], " ")
	}
	f := strings.Split(line, sep)
	return strings.Join(f[min(n-1, len(f)):], sep)
}

func leadingNumber(s string) float64 {
	s = strings.TrimSpace(s)
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
	list, byField := c.opt.value("f"), c.opt.has("f")
	if !byField {
		list = c.opt.value("c") + c.opt.value("b")
	}
	spans, err := parseSpans(list)
	if err != nil {
		return c.fail(1, "%v", err)
	}
	sep := "\t"
	if c.opt.has("d") {
		sep = c.opt.value("d")
	}
	all, code := c.allLines()
	for _, line := range all {
		units, joint := strings.Split(line, ""), ""
		if byField {
			if !strings.Contains(line, sep) {
				if !c.opt.has("s") {
					fmt.Fprintln(c.stdout, line)
				}
				continue
			}
			units, joint = strings.Split(line, sep), sep
		}
		var keep []string
		for i, u := range units {
			if slices.ContainsFunc(spans, func(s span) bool { return s.from <= i+1 && i+1 <= s.to }) {
				keep = append(keep, u)
			}
		}
		fmt.Fprintln(c.stdout, strings.Join(keep, joint))
	}
	return code
}

// expandSet expands the operand of tr: ranges, escapes and the classes of POSIX.
func expandSet(s string) []rune {
	for name, chars := range map[string]string{
		"[:upper:]": "A-Z", "[:lower:]": "a-z", "[:digit:]": "0-9", "[:alpha:]": "A-Za-z", "[:alnum:]": "A-Za-z0-9",
		"[:space:]": "\t\n\v\f\r ", "[:blank:]": " \t", "[:punct:]": "!-/:-@\\[-`{-~",
	} {
		s = strings.ReplaceAll(s, name, chars)
	}
	in, out := []rune(s), []rune{}
	for i := 0; i < len(in); i++ {
		r := in[i]
		if r == '\\' && i+1 < len(in) {
			i++
			escapes := map[rune]rune{'n': '\n', 't': '\t', 'r': '\r', '0': 0}
			if e, ok := escapes[in[i]]; ok {
				r = e
			} else {
				r = in[i]
			}
		}
		if i+2 < len(in) && in[i+1] == '-' {
			for x := r; x <= in[i+2]; x++ {
				out = append(out, x)
			}
			i += 2
			continue
		}
		out = append(out, r)
	}
	return out
}

func tr(c *call) int {
	if len(c.opt.args) < 1 {
		return c.fail(1, "missing operand")
	}
	from := expandSet(c.opt.args[0])
	var to []rune
	if len(c.opt.args) > 1 {
		to = expandSet(c.opt.args[1])
	}
	if len(to) == 0 && !c.opt.has("d") && !c.opt.has("s") {
		return c.fail(1, "missing operand")
	}
	in := func(r rune) int {
		i := slices.Index(from, r)
		if !c.opt.has("c") {
			return i
		}
		if i >= 0 {
			return -1
		}
		return len(to) - 1
	}
	data, err := io.ReadAll(c.stdin)
	if err != nil {
		return c.fail(1, "%v", err)
	}
	var out strings.Builder
	last := rune(-1)
	for _, r := range string(data) {
		i := in(r)
		hit := i >= 0 || c.opt.has("c") && !slices.Contains(from, r)
		if hit && c.opt.has("d") {
			continue
		}
		if hit && len(to) > 0 {
			r = to[max(min(i, len(to)-1), 0)]
		}
		if hit && c.opt.has("s") && r == last {
			continue
		}
		last = -1
		if hit {
			last = r
		}
		out.WriteRune(r)
	}
	_, err = io.WriteString(c.stdout, out.String())
	if err != nil {
		return c.fail(1, "%v", err)
	}
	return 0
}
