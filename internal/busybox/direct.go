package busybox

import (
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// Direct takes a step's arguments apart where the shell of the base would do no more than start one program: command is what it
// starts, env the variables (NAME=value) that it sets for it. So the step need not run a shell, as BusyBox's execs the last
// command. Whatever has to be expanded, redirected or looked up, and whatever is no plain word, is left to the shell, and so are
// programs of the stage.
func Direct(args []string) (command, env []string, ok bool) {
	if len(args) != 3 || args[0] != "/bin/sh" || args[1] != "-c" {
		return nil, nil, false
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(args[2]), "")
	if err != nil || len(file.Stmts) != 1 {
		return nil, nil, false
	}
	stmt := file.Stmts[0]
	call, ok := stmt.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) == 0 || stmt.Negated || stmt.Background || stmt.Coprocess || stmt.Disown || len(stmt.Redirs) > 0 {
		return nil, nil, false
	}
	for _, a := range call.Assigns {
		// Others mean something to the shell itself.
		if a.Append || a.Naked || a.Index != nil || a.Array != nil || !goVariable.MatchString(a.Name.Value) {
			return nil, nil, false
		}
		value, ok := plainWord(a.Value)
		if !ok {
			return nil, nil, false
		}
		env = append(env, a.Name.Value+"="+value)
	}
	for _, w := range call.Args {
		text, ok := plainWord(w)
		if !ok {
			return nil, nil, false
		}
		command = append(command, text)
	}
	if !direct(command) {
		return nil, nil, false
	}
	return command, env, true
}

// direct reports whether a command is one of the go command that starts no program of the stage. Others could show the environment, in
// which a shell leaves PWD, and variables in an order of its own.
func direct(command []string) bool {
	if len(command) < 2 || command[0] != "go" || !slices.Contains([]string{"build", "clean", "env", "get", "install", "list", "mod", "version", "vet", "work"}, command[1]) {
		return false
	}
	return !slices.ContainsFunc(command, func(a string) bool { return strings.Contains(a, "exec") || strings.Contains(a, "vettool") })
}

var (
	goVariable = regexp.MustCompile(`^C?GO[A-Z0-9_]*$`)
	plainText  = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]*$`)
)

// plainWord is a word in which there is nothing to expand.
func plainWord(w *syntax.Word) (string, bool) {
	if w == nil {
		return "", true
	}
	var text strings.Builder
	for _, part := range w.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			if !plainText.MatchString(p.Value) {
				return "", false
			}
			text.WriteString(p.Value)
		case *syntax.SglQuoted:
			if p.Dollar {
				return "", false
			}
			text.WriteString(p.Value)
		case *syntax.DblQuoted:
			for _, in := range p.Parts {
				lit, ok := in.(*syntax.Lit)
				if !ok || p.Dollar || strings.Contains(lit.Value, `\`) {
					return "", false
				}
				text.WriteString(lit.Value)
			}
		default:
			return "", false
		}
	}
	return text.String(), true
}
