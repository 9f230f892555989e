package gobase

import (
	"cmp"
	"go/version"
	"strings"
)

// compareGo compares released Go versions without the leading "go": "1.9" < "1.13rc1" < "1.13" < "1.13.1".
func compareGo(a, b string) int {
	// From 1.21 on "1.21" is the language and sorts below 1.21rc1, as go/version has it; below, the release.
	return version.Compare("go"+a, "go"+b)
}

// goLine is the language version of a release: "1.26" for "1.26.8" and "1.26rc1".
func goLine(v string) string {
	return strings.TrimPrefix(version.Lang("go"+v), "go")
}

// released reports whether v is no release candidate and no beta.
func released(v string) bool { return version.IsValid("go"+v) && !strings.ContainsAny(v, "rb") }

// atLeast reports whether the line of v is line or newer: atLeast("1.13.15", "1.21") is false.
func atLeast(v, line string) bool { return compareGo(goLine(v), line) >= 0 }

// matches reports whether release v is one that a tag asking for want ("", "1", "1.26", "1.26.8") may mean.
func matches(want, v string) bool {
	switch {
	case want == v:
		return true
	case !released(v):
		return false
	case want == "" || want == "1":
		return true
	case strings.Count(want, ".") == 1 && released(want):
		return goLine(v) == want
	}
	return want == v+".0" || want+".0" == v
}

// newest returns the newest of vs that want may mean, or "".
func newest(want string, vs []string) string {
	best := ""
	for _, v := range vs {
		if matches(want, v) && (best == "" || cmp.Compare(compareGo(v, best), 0) > 0) {
			best = v
		}
	}
	return best
}
