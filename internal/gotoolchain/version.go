package gotoolchain

import (
	"cmp"
	"go/version"
	"strings"
)

// Compare compares released Go versions without the leading "go": "1.9" < "1.13rc1" < "1.13" < "1.13.1".
func Compare(a, b string) int {
	// From 1.21 on "1.21" is the language and sorts below 1.21rc1, as go/version has it; below, the release.
	return version.Compare("go"+a, "go"+b)
}

// Line is the language version of a release: "1.26" for "1.26.8" and "1.26rc1".
func Line(v string) string {
	return strings.TrimPrefix(version.Lang("go"+v), "go")
}

// IsRelease reports whether v is a released Go: no candidate and no beta.
func IsRelease(v string) bool { return version.IsValid("go"+v) && !strings.ContainsAny(v, "rb") }

// AtLeast reports whether the line of v is line or newer: AtLeast("1.13.15", "1.21") is false.
func AtLeast(v, line string) bool { return Compare(Line(v), line) >= 0 }

// Wanted is a reference's wish for a Go, which one release or more fulfil.
type Wanted struct {
	Ref string // the reference, for messages: golang:1.26-alpine
	Go  string // "" (newest release), "1", "1.26", "1.26.8" or "1.26rc1"
}

// Exact reports whether one release is wanted rather than the newest of a line. Up to 1.20 the first
// release of a line had no third number, so "1.13" floats as well; the image of that name moved with it.
func (w Wanted) Exact() bool {
	return strings.Count(w.Go, ".") == 2 || strings.ContainsAny(w.Go, "rb")
}

// matches reports whether release v is one that a tag asking for want ("", "1", "1.26", "1.26.8") may mean.
func matches(want, v string) bool {
	switch {
	case want == v:
		return true
	case !IsRelease(v):
		return false
	case want == "" || want == "1":
		return true
	case strings.Count(want, ".") == 1 && IsRelease(want):
		return Line(v) == want
	}
	return want == v+".0" || want+".0" == v
}

// Newest returns the newest of vs that want (see [Wanted.Go]) may mean, or "".
func Newest(want string, vs []string) string {
	best := ""
	for _, v := range vs {
		if matches(want, v) && (best == "" || cmp.Compare(Compare(v, best), 0) > 0) {
			best = v
		}
	}
	return best
}
