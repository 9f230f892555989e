package goaware

import (
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// This file finds the steps of which the engine may take an earlier result because all that they read is the same: those whose result
// follows from their words, variables and files. Which files, only the step itself knows, and the engine watches it. What a step is told
// by a proxy belongs to it where go.sum has the checksum; which version is the latest does not.

// followsFromInputs says so of a step that is to be confined.
func (s *step) followsFromInputs() bool {
	if !s.script.parsed || len(s.op.Secretenv) > 0 || goOlderThan(s.env["GOLANG_VERSION"], 1, 16) { // before it, -mod=mod was the default
		return false
	}
	for _, vars := range []map[string]string{s.env, s.script.assigned} {
		if asksForVersions(strings.Fields(vars["GOFLAGS"])) {
			return false
		}
	}
	goes := false
	for _, c := range s.script.commands {
		switch {
		case len(c.words) == 0:
		case c.words[0] == "go":
			if !goFollowsFromInputs(c.words) {
				return false
			}
			goes = goes || !slices.Contains(words("version env"), c.words[1])
		case !slices.Contains(determined, c.words[0]):
			return false
		}
	}
	return goes
}

// determined are commands of the base whose result follows from their words and from what they read. A test is none: it may ask for
// times and sizes.
var determined = words("cd echo printf true : pwd set export mkdir cat basename dirname head tail cut tr exit")

func goFollowsFromInputs(w []string) bool {
	if len(w) < 2 || asksForVersions(w[2:]) {
		return false
	}
	switch w[1] {
	case "build", "install", "vet", "version", "env":
		return true
	case "list":
		return !slices.ContainsFunc(w[2:], func(a string) bool { return slices.Contains(words("u versions retracted"), flagName(a)) })
	case "mod":
		return len(w) > 2 && slices.Contains(words("download verify graph why"), w[2])
	}
	return false
}

// asksForVersions says whether arguments of a go command may have it ask which versions there are.
func asksForVersions(args []string) bool {
	for i, a := range args {
		name, value, inline := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if flagName(a) == "mod" && (inline && value == "mod" || !inline && i+1 < len(args) && args[i+1] == "mod") || strings.Contains(a, "-mod=mod") {
			return true
		}
		if _, version, ok := strings.Cut(name, "@"); ok && flagName(a) == "" && module.CanonicalVersion(version) != version {
			return true
		}
	}
	return false
}
