package busybox

import (
	"bufio"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
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
		"cat":  {run: cat, flags: "un"},
		"head": {run: head, raw: true, check: checkCount},
		"tail": {run: tail, raw: true, check: checkCount},
		"tee":  {run: tee, flags: "a", long: map[string]string{"append": "a"}},
		"wc":   {run: wc, flags: "lwc", long: map[string]string{"lines": "l", "words": "w", "bytes": "c"}},
		"sort": {run: sortLines, flags: "unrfVsk:t:o:", long: map[string]string{
			"unique": "u", "numeric-sort": "n", "reverse": "r", "version-sort": "V", "key": "k:", "field-separator": "t:", "output": "o:"}},
		"uniq":      {run: uniq, flags: "cdu", long: map[string]string{"count": "c"}},
		"cut":       {run: cut, flags: "d:f:c:b:s", long: map[string]string{"delimiter": "d:", "fields": "f:", "characters": "c:"}},
		"tr":        {run: tr, flags: "dscC", long: map[string]string{"delete": "d", "squeeze-repeats": "s", "complement": "c"}, check: checkTr},
		"sed":       {run: sed, raw: true, check: checkSed},
		"seq":       {run: seq, raw: true, check: checkSeq},
		"rev":       {run: rev},
		"base64":    {run: runBase64, flags: "dw:", long: map[string]string{"decode": "d", "wrap": "w:"}},
		"md5sum":    {run: sum(md5.New), flags: "c", long: map[string]string{"check": "c", "status": "status"}},
		"sha1sum":   {run: sum(sha1.New), flags: "c", long: map[string]string{"check": "c", "status": "status"}},
		"sha256sum": {run: sum(sha256.New), flags: "c", long: map[string]string{"check": "c", "status": "status"}},
		"sha512sum": {run: sum(sha512.New), flags: "c", long: map[string]string{"check": "c", "status": "status"}},
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

// eachLine calls fn for every line of all operands, with its newline where it has one.
func (c *call) eachLine(fn func(line string) error) int {
	return c.inputs(func(_ string, r io.Reader) error {
		in := bufio.NewReaderSize(r, 32<<10)
		for {
			line, err := in.ReadString('\n')
			if line != "" {
				if len(line) > maxLine {
					return errors.New("a line is too long")
				}
				if err := fn(line); err != nil {
					return err
				}
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}

func cat(c *call) int {
	if !c.opt.has("n") {
		return c.inputs(func(_ string, r io.Reader) error {
			_, err := io.Copy(c.stdout, r)
			return err
		})
	}
	number := 0
	return c.eachLine(func(line string) error {
		number++
		fmt.Fprintf(c.stdout, "%6d\t%s", number, line)
		if !strings.HasSuffix(line, "\n") && c.variant() == Alpine { // BusyBox ends the last line
			fmt.Fprintln(c.stdout)
		}
		return nil
	})
}

// countArgs are the arguments of head and tail: -n 5, -n5, -5, -c 5.
type countArgs struct {
	n     int
	sign  byte // '+' or '-' before the number, 0 without one
	bytes bool
	names []string
}

func parseCount(args []string) (countArgs, error) {
	a := countArgs{n: 10}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		value := ""
		switch {
		case arg == "--":
			a.names = append(a.names, args...)
			return a, nil
		case len(arg) > 1 && arg[0] == '-' && arg[1] >= '0' && arg[1] <= '9':
			value = arg[1:]
		case strings.HasPrefix(arg, "-n"), strings.HasPrefix(arg, "-c"):
			a.bytes = arg[1] == 'c'
			if value = arg[2:]; value == "" {
				if len(args) == 0 {
					return a, fmt.Errorf("option %s requires an argument", arg)
				}
				value, args = args[0], args[1:]
			}
		case len(arg) > 1 && arg[0] == '-':
			return a, fmt.Errorf("unrecognized option %s", arg)
		default:
			a.names = append(a.names, arg)
			continue
		}
		a.sign = 0
		if value != "" && (value[0] == '+' || value[0] == '-') {
			a.sign, value = value[0], value[1:]
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return a, fmt.Errorf("the number %q is not served", value)
		}
		a.n = n
	}
	return a, nil
}

func checkCount(_ Variant, args []Value) string {
	texts, all := known(args)
	if !all {
		return ""
	}
	if _, err := parseCount(texts); err != nil {
		return err.Error()
	}
	return ""
}

// counted runs head or tail over all operands, with the headings of several.
func (c *call) counted(fn func(a countArgs, r *bufio.Reader) error) int {
	a, err := parseCount(c.args[1:])
	if err != nil {
		return c.unserved("%v", err)
	}
	c.opt.args = a.names
	first := true
	return c.inputs(func(name string, r io.Reader) error {
		if len(a.names) > 1 {
			if !first {
				fmt.Fprintln(c.stdout)
			}
			if name == "-" {
				name = "standard input"
			}
			fmt.Fprintf(c.stdout, "==> %s <==\n", name)
			first = false
		}
		in := bufio.NewReaderSize(r, 4096)
		err := fn(a, in)
		// What was read too much of a file is given back, as both do: another command may go on from there.
		if f, ok := r.(io.Seeker); ok && name == "-" && in.Buffered() > 0 {
			_, _ = f.Seek(int64(-in.Buffered()), io.SeekCurrent) // a pipe cannot
		}
		return err
	})
}

func head(c *call) int {
	return c.counted(func(a countArgs, r *bufio.Reader) error {
		if a.sign == '+' || a.bytes && a.sign == '-' {
			c.unserved("the sign of the number is not served")
		}
		if a.bytes {
			_, err := io.CopyN(c.stdout, r, int64(a.n))
			if err == io.EOF {
				return nil
			}
			return err
		}
		var held []string // head -n -5: all but the last five
		for i := 0; a.sign == '-' || i < a.n; i++ {
			line, err := r.ReadString('\n')
			if line != "" {
				held = append(held, line)
			}
			if err != nil && err != io.EOF {
				return err
			}
			if a.sign != '-' || len(held) > a.n {
				if len(held) > 0 {
					io.WriteString(c.stdout, held[0])
					held = held[1:]
				}
			}
			if err == io.EOF {
				return nil
			}
		}
		return nil
	})
}

func tail(c *call) int {
	return c.counted(func(a countArgs, r *bufio.Reader) error {
		if a.sign == '+' {
			for i := 1; i < a.n; i++ {
				var err error
				if a.bytes {
					_, err = r.ReadByte()
				} else {
					_, err = r.ReadString('\n')
				}
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
			}
			_, err := io.Copy(c.stdout, r)
			return err
		}
		var last []string
		for {
			unit, err := "", error(nil)
			if a.bytes {
				var b byte
				if b, err = r.ReadByte(); err == nil {
					unit = string([]byte{b})
				}
			} else {
				unit, err = r.ReadString('\n')
			}
			if unit != "" {
				if last = append(last, unit); len(last) > 2*a.n+1000 {
					last = slices.Clone(last[len(last)-a.n:])
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		for _, unit := range last[max(0, len(last)-a.n):] {
			io.WriteString(c.stdout, unit)
		}
		return nil
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
	all := !c.opt.has("l") && !c.opt.has("w") && !c.opt.has("c")
	var columns []int
	for i, f := range []string{"l", "w", "c"} {
		if all || c.opt.has(f) {
			columns = append(columns, i)
		}
	}
	var names []string
	var counts [][3]int
	var total [3]int
	code := c.inputs(func(name string, r io.Reader) error {
		var n [3]int
		in := bufio.NewReaderSize(r, 32<<10)
		word := false
		for {
			b, err := in.ReadByte()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			n[2]++
			if b == '\n' {
				n[0]++
			}
			blank := b == ' ' || b >= '\t' && b <= '\r'
			if !blank && b < ' ' || b >= 0x7f {
				if c.opt.has("w") || all {
					c.unserved("words with other than ASCII's characters are not served")
				}
			}
			if !blank && !word {
				n[1]++
			}
			word = !blank
		}
		if len(c.opt.args) == 0 {
			name = ""
		}
		names, counts = append(names, name), append(counts, n)
		for i := range n {
			total[i] += n[i]
		}
		return nil
	})
	width := 1
	switch {
	case c.variant() == Alpine:
		if len(columns) > 1 {
			width = 9
		} else if len(c.opt.args) > 1 {
			width = 9
		}
	case len(columns) > 1 || len(c.opt.args) > 1:
		width = c.sizeWidth()
	}
	if len(c.opt.args) > 1 {
		names, counts = append(names, "total"), append(counts, total)
	}
	for i, n := range counts {
		var cols []string
		for _, k := range columns {
			cols = append(cols, fmt.Sprintf("%*d", width, n[k]))
		}
		if names[i] != "" {
			cols = append(cols, names[i])
		}
		fmt.Fprintln(c.stdout, strings.Join(cols, " "))
	}
	return code
}

// sizeWidth is how wide coreutils' wc makes its columns: as the sum of the sizes, 7 where one is no regular file.
func (c *call) sizeWidth() int {
	var sum int64
	least := 1
	if len(c.opt.args) == 0 {
		return 7
	}
	for _, name := range c.opt.args {
		info, err := os.Stat(c.abs(name))
		switch {
		case name == "-" || err == nil && !info.Mode().IsRegular():
			least = 7
		case err == nil:
			sum += info.Size()
		}
	}
	return max(least, len(strconv.FormatInt(sum, 10)))
}

func uniq(c *call) int {
	if len(c.opt.args) > 1 {
		return c.unserved("a second operand is not served")
	}
	last, n := "", 0
	show := func() {
		if n == 0 || c.opt.has("d") && n == 1 || c.opt.has("u") && n > 1 {
			return
		}
		if c.opt.has("c") {
			fmt.Fprintf(c.stdout, "%7d ", n)
		}
		fmt.Fprintln(c.stdout, last)
	}
	code := c.eachLine(func(line string) error {
		line = strings.TrimSuffix(line, "\n")
		if n > 0 && line == last {
			n++
			return nil
		}
		show()
		last, n = line, 1
		return nil
	})
	show()
	return code
}

func rev(c *call) int {
	return c.eachLine(func(line string) error {
		text, ended := strings.CutSuffix(line, "\n")
		r := []byte(text)
		for _, b := range r {
			if b >= 0x80 {
				c.unserved("text beyond ASCII is not served")
			}
		}
		slices.Reverse(r)
		c.stdout.Write(r)
		if ended {
			fmt.Fprintln(c.stdout)
		}
		return nil
	})
}

// seqArgs are the arguments of seq.
type seqArgs struct {
	numbers []int
	sep     string
	wide    bool
}

func parseSeq(args []string) (seqArgs, error) {
	a := seqArgs{sep: "\n"}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && (args[0][1] < '0' || args[0][1] > '9') {
		switch {
		case args[0] == "-w":
			a.wide = true
		case args[0] == "-s" && len(args) > 1:
			a.sep, args = args[1], args[1:]
		case strings.HasPrefix(args[0], "-s"):
			a.sep = args[0][2:]
		default:
			return a, fmt.Errorf("unrecognized option %s", args[0])
		}
		args = args[1:]
	}
	for _, arg := range args {
		n, err := strconv.Atoi(arg)
		if err != nil || strconv.Itoa(n) != arg {
			return a, fmt.Errorf("the number %q is not served", arg)
		}
		a.numbers = append(a.numbers, n)
	}
	if len(a.numbers) < 1 || len(a.numbers) > 3 || len(a.numbers) == 3 && a.numbers[1] == 0 {
		return a, fmt.Errorf("these operands are not served")
	}
	return a, nil
}

func checkSeq(_ Variant, args []Value) string {
	texts, all := known(args)
	if !all {
		return ""
	}
	if _, err := parseSeq(texts); err != nil {
		return err.Error()
	}
	return ""
}

func seq(c *call) int {
	a, err := parseSeq(c.args[1:])
	if err != nil {
		return c.unserved("%v", err)
	}
	first, step, last := 1, 1, a.numbers[len(a.numbers)-1]
	if len(a.numbers) > 1 {
		first = a.numbers[0]
	}
	if len(a.numbers) > 2 {
		step = a.numbers[1]
	}
	width := 0
	if a.wide {
		if first < 0 || last < 0 {
			return c.unserved("-w of negative numbers is not served")
		}
		width = max(len(strconv.Itoa(first)), len(strconv.Itoa(last)))
	}
	some := false
	for i := first; step > 0 && i <= last || step < 0 && i >= last; i += step {
		if some {
			io.WriteString(c.stdout, a.sep)
		}
		some = true
		fmt.Fprintf(c.stdout, "%0*d", width, i)
	}
	if some {
		fmt.Fprintln(c.stdout)
	}
	return 0
}
