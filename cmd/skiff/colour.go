package main

import (
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/skiff-build/skiff"
)

// severityColours are the codes of ANSI terminals (ECMA-48, "SGR"): bold red, yellow, and the usual colour but dim.
var severityColours = map[string]string{
	string(skiff.SeverityError): "\x1b[1;31m", string(skiff.SeverityWarning): "\x1b[33m", string(skiff.SeverityInfo): "\x1b[2m",
}

// coloured is w, with the severities of findings in colours where it is a terminal and nobody forbids it (no-color.org).
func coloured(w io.Writer) io.Writer {
	if f, ok := raw(w).(*os.File); ok && isTerminal(f) && wantsColours(os.Getenv) {
		return skiff.Printable(&painter{f}) // colours come after others' text has lost its own
	}
	return w
}

func wantsColours(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// painter paints the severity at the begin of a line. Each call of Write has whole lines.
type painter struct{ w io.Writer }

var severityWord = regexp.MustCompile(`(?m)^(  )?(error|warning|info)\b`)

func (p *painter) Write(text []byte) (int, error) {
	painted := severityWord.ReplaceAllStringFunc(string(text), func(word string) string {
		name := strings.TrimLeft(word, " ")
		return word[:len(word)-len(name)] + severityColours[name] + name + "\x1b[0m"
	})
	if _, err := io.WriteString(p.w, painted); err != nil {
		return 0, err
	}
	return len(text), nil
}
