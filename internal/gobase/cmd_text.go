package gobase

import (
	"bufio"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// textCommands read files or standard input and write to standard output.
func textCommands() map[string]command {
	return map[string]command{
		"cat":  {run: cat, flags: "unvetA"},
		"head": {run: head, raw: true},
		"tail": {run: tail, raw: true},
		"tee":  {run: tee, flags: "ai", long: map[string]string{"append": "a"}},
		"wc":   {run: wc, flags: "lwcm", long: map[string]string{"lines": "l", "words": "w", "bytes": "c"}},
		"sort": {run: sortLines, flags: "unrfVbdk:t:sz", long: map[string]string{
			"unique": "u", "numeric-sort": "n", "reverse": "r", "version-sort": "V", "key": "k:", "field-separator": "t:"}},
		"uniq":      {run: uniq, flags: "cdui", long: map[string]string{"count": "c"}},
		"cut":       {run: cut, flags: "d:f:c:b:s", long: map[string]string{"delimiter": "d:", "fields": "f:", "characters": "c:"}},
		"tr":        {run: tr, flags: "dsc", long: map[string]string{"delete": "d", "squeeze-repeats": "s"}},
		"seq":       {run: seq, flags: "s:w"},
		"rev":       {run: rev},
		"base64":    {run: runBase64, flags: "dw:", long: map[string]string{"decode": "d", "wrap": "w:"}},
		"md5sum":    {run: sum(md5.New), flags: "cbts", long: map[string]string{"check": "c"}},
		"sha1sum":   {run: sum(sha1.New), flags: "cbts", long: map[string]string{"check": "c"}},
		"sha256sum": {run: sum(sha256.New), flags: "cbts", long: map[string]string{"check": "c"}},
		"sha512sum": {run: sum(sha512.New), flags: "cbts", long: map[string]string{"check": "c"}},
	}
}

// inputs calls fn for each operand's content, or for standard input without one.
func (c *call) inputs(fn func(name string, r io.Reader) error) int {
	names, code := c.opt.args, 0
	if len(names) == 0 {
		names = []string{"-"}
	}
	for _, name := range names {
		r, err := c.open(name)
		if err == nil {
			err = fn(name, r)
			r.Close()
		}
		if err != nil {
			code = c.fail(1, "%s: %s", name, why(err))
		}
	}
	return code
}

// maxLine bounds one line of text in bytes.
const maxLine = 64 << 20

func lines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return s
}

// allLines reads the lines of all operands.
func (c *call) allLines() ([]string, int) {
	var all []string
	code := c.inputs(func(_ string, r io.Reader) error {
		s := lines(r)
		for s.Scan() {
			all = append(all, s.Text())
		}
		return s.Err()
	})
	return all, code
}

func cat(c *call) int {
	number := 0
	return c.inputs(func(_ string, r io.Reader) error {
		if !c.opt.has("n") {
			_, err := io.Copy(c.stdout, r)
			return err
		}
		s := lines(r)
		for s.Scan() {
			number++
			fmt.Fprintf(c.stdout, "%6d\t%s\n", number, s.Text())
		}
		return s.Err()
	})
}

// countArgs reads the arguments of head and tail: -n 5, -n5, -5, -c 5, -q.
func (c *call) countArgs() (n string, isBytes bool, err error) {
	n = "10"
	args := c.args[1:]
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "-q" || arg == "-v":
		case len(arg) > 1 && arg[0] == '-' && arg[1] >= '0' && arg[1] <= '9':
			n = arg[1:]
		case strings.HasPrefix(arg, "-n"), strings.HasPrefix(arg, "-c"), strings.HasPrefix(arg, "--lines="), strings.HasPrefix(arg, "--bytes="):
			isBytes = arg[1] == 'c' || strings.HasPrefix(arg, "--bytes")
			value := arg[2:]
			if _, long, ok := strings.Cut(arg, "="); ok {
				value = long
			}
			if value == "" {
				if len(args) == 0 {
					return "", false, fmt.Errorf("option %s requires an argument", arg)
				}
				value, args = args[0], args[1:]
			}
			n = value
		case len(arg) > 1 && arg[0] == '-':
			return "", false, fmt.Errorf("unrecognized option %s", arg)
		default:
			c.opt.args = append(c.opt.args, arg)
		}
	}
	return n, isBytes, nil
}

func head(c *call) int {
	text, isBytes, err := c.countArgs()
	n, perr := strconv.Atoi(text)
	if err == nil {
		err = perr
	}
	if err != nil {
		return c.fail(1, "%v", err)
	}
	return c.inputs(func(_ string, r io.Reader) error {
		if isBytes {
			_, err := io.CopyN(c.stdout, r, int64(n))
			if err == io.EOF {
				return nil
			}
			return err
		}
		s := lines(r)
		var held []string // head -n -5: all but the last five
		for i := 0; (n < 0 || i < n) && s.Scan(); i++ {
			if n >= 0 {
				fmt.Fprintln(c.stdout, s.Text())
				continue
			}
			if held = append(held, s.Text()); len(held) > -n {
				fmt.Fprintln(c.stdout, held[0])
				held = held[1:]
			}
		}
		return s.Err()
	})
}

func tail(c *call) int {
	text, isBytes, err := c.countArgs()
	n, perr := strconv.Atoi(strings.TrimPrefix(text, "+"))
	if err == nil {
		err = perr
	}
	if err != nil {
		return c.fail(1, "%v", err)
	}
	n = max(n, -n)
	return c.inputs(func(_ string, r io.Reader) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		units := strings.SplitAfter(string(data), "\n")
		if units[len(units)-1] == "" {
			units = units[:len(units)-1]
		}
		if isBytes {
			units = strings.Split(string(data), "")
		}
		from := max(len(units)-n, 0)
		if strings.HasPrefix(text, "+") {
			from = min(max(n-1, 0), len(units))
		}
		_, err = io.WriteString(c.stdout, strings.Join(units[from:], ""))
		return err
	})
}

func tee(c *call) int {
	out := []io.Writer{c.stdout}
	code := 0
	for _, name := range c.opt.args {
		how := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		if c.opt.has("a") {
			how = os.O_WRONLY | os.O_CREATE | os.O_APPEND
		}
		f, err := os.OpenFile(c.abs(name), how, 0o666)
		if err != nil {
			code = c.fail(1, "%s: %s", name, why(err))
			continue
		}
		defer f.Close()
		out = append(out, f)
	}
	if _, err := io.Copy(io.MultiWriter(out...), c.stdin); err != nil {
		return c.fail(1, "%v", err)
	}
	return code
}

func wc(c *call) int {
	all := !c.opt.has("l") && !c.opt.has("w") && !c.opt.has("c") && !c.opt.has("m")
	var total [3]int
	show := func(n [3]int, name string) {
		var cols []string
		for i, f := range []string{"l", "w", "c"} {
			if all || c.opt.has(f) || f == "c" && c.opt.has("m") {
				cols = append(cols, strconv.Itoa(n[i]))
			}
		}
		if name != "-" {
			cols = append(cols, name)
		}
		fmt.Fprintln(c.stdout, strings.Join(cols, " "))
	}
	code := c.inputs(func(name string, r io.Reader) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		n := [3]int{strings.Count(string(data), "\n"), len(strings.Fields(string(data))), len(data)}
		for i := range n {
			total[i] += n[i]
		}
		show(n, name)
		return nil
	})
	if len(c.opt.args) > 1 {
		show(total, "total")
	}
	return code
}

func uniq(c *call) int {
	all, code := c.allLines()
	for i := 0; i < len(all); {
		n := 1
		for i+n < len(all) && all[i+n] == all[i] {
			n++
		}
		if !(c.opt.has("d") && n == 1 || c.opt.has("u") && n > 1) {
			if c.opt.has("c") {
				fmt.Fprintf(c.stdout, "%7d ", n)
			}
			fmt.Fprintln(c.stdout, all[i])
		}
		i += n
	}
	return code
}

func rev(c *call) int {
	all, code := c.allLines()
	for _, line := range all {
		r := []rune(line)
		slices.Reverse(r)
		fmt.Fprintln(c.stdout, string(r))
	}
	return code
}

func seq(c *call) int {
	var n []int
	for _, arg := range c.opt.args {
		v, err := strconv.Atoi(arg)
		if err != nil {
			return c.fail(1, "invalid number '%s'", arg)
		}
		n = append(n, v)
	}
	first, step, last := 1, 1, 0
	switch len(n) {
	case 1:
		last = n[0]
	case 2:
		first, last = n[0], n[1]
	case 3:
		first, step, last = n[0], n[1], n[2]
	default:
		return c.fail(1, "missing operand")
	}
	if step == 0 {
		return c.fail(1, "step of zero")
	}
	var out []string
	for i := first; step > 0 && i <= last || step < 0 && i >= last; i += step {
		out = append(out, strconv.Itoa(i))
	}
	sep := "\n"
	if c.opt.has("s") {
		sep = c.opt.value("s")
	}
	if len(out) > 0 {
		fmt.Fprintln(c.stdout, strings.Join(out, sep))
	}
	return 0
}
