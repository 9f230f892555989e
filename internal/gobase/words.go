package gobase

import (
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// fields are the words that a word becomes: an unquoted variable alone is cut at its blanks.
func (s *step) fields(w *syntax.Word) []value {
	if all, ok := s.allParams(w); ok {
		return all
	}
	v := s.word(w)
	if len(w.Parts) == 1 && v.known {
		if _, bare := w.Parts[0].(*syntax.ParamExp); bare {
			var all []value
			for _, f := range strings.Fields(v.text) {
				all = append(all, value{f, true})
			}
			return all
		}
	}
	return []value{v}
}

// allParams are the words of "$@", alone.
func (s *step) allParams(w *syntax.Word) (all []value, ok bool) {
	if s.params == nil || len(w.Parts) != 1 {
		return nil, false
	}
	q, ok := w.Parts[0].(*syntax.DblQuoted)
	if !ok || len(q.Parts) != 1 {
		return nil, false
	}
	p, ok := q.Parts[0].(*syntax.ParamExp)
	if !ok || p.Param == nil || p.Param.Value != "@" || p.Exp != nil || p.Slice != nil || p.Length {
		return nil, false
	}
	for _, text := range s.params {
		all = append(all, value{text, true})
	}
	return all, true
}

// word is the value of a word; one with a substitution is not known.
func (s *step) word(w *syntax.Word) value {
	var out strings.Builder
	for _, p := range w.Parts {
		v := s.part(p)
		if !v.known {
			return value{}
		}
		out.WriteString(v.text)
	}
	return value{out.String(), true}
}

func (s *step) part(p syntax.WordPart) value {
	switch p := p.(type) {
	case *syntax.Lit:
		return value{unescape(p.Value), true}
	case *syntax.SglQuoted:
		return value{p.Value, !p.Dollar || !strings.Contains(p.Value, `\`)}
	case *syntax.DblQuoted:
		var out strings.Builder
		for _, q := range p.Parts {
			v := s.part(q)
			if !v.known {
				return value{}
			}
			out.WriteString(v.text)
		}
		return value{out.String(), true}
	case *syntax.ParamExp:
		return s.param(p)
	case *syntax.CmdSubst:
		return s.output(p)
	}
	return value{}
}

// unescape drops the backslashes of unquoted text.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			if s[i] == '\n' {
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func (s *step) param(p *syntax.ParamExp) value {
	if p.Param == nil || p.Excl || p.Length || p.Width || p.Index != nil || p.Slice != nil || p.Repl != nil {
		return value{}
	}
	name := p.Param.Value
	if s.params != nil && p.Exp == nil {
		switch n, err := strconv.Atoi(name); {
		case name == "0":
			return value{s.scriptName, s.scriptName != ""}
		case name == "#":
			return value{strconv.Itoa(len(s.params)), true}
		case err == nil && n <= len(s.params):
			return value{s.params[n-1], true}
		case err == nil:
			return value{"", true}
		}
	}
	if name == "" || !(name[0] == '_' || name[0] >= 'A' && name[0] <= 'Z' || name[0] >= 'a' && name[0] <= 'z') {
		return value{} // $1, $@, $?
	}
	v, set := s.env[name]
	switch {
	case set:
	case name == "PWD":
		v, set = s.cwd, true
	case s.wild || byShell(s.shellVariant(), name):
		return value{}
	default:
		v = value{"", true}
	}
	if p.Exp == nil || !v.known {
		return v
	}
	otherwise := func() value {
		if p.Exp.Word == nil {
			return value{"", true}
		}
		return s.word(p.Exp.Word)
	}
	switch p.Exp.Op {
	case syntax.DefaultUnsetOrNull, syntax.AssignUnsetOrNull:
		if v.text == "" {
			return otherwise()
		}
		return v
	case syntax.DefaultUnset, syntax.AssignUnset:
		if !set {
			return otherwise()
		}
		return v
	case syntax.AlternateUnsetOrNull:
		if v.text != "" {
			return otherwise()
		}
		return value{"", true}
	case syntax.RemSmallPrefix, syntax.RemLargePrefix, syntax.RemSmallSuffix, syntax.RemLargeSuffix:
		// ${TARGETVARIANT#v}: a pattern without wildcards is removed as it stands.
		cut := otherwise()
		if !cut.known || strings.ContainsAny(cut.text, `*?[\`) {
			return value{}
		}
		if p.Exp.Op == syntax.RemSmallPrefix || p.Exp.Op == syntax.RemLargePrefix {
			return value{strings.TrimPrefix(v.text, cut.text), true}
		}
		return value{strings.TrimSuffix(v.text, cut.text), true}
	}
	return value{}
}
