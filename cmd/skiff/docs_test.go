package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"mvdan.cc/sh/v3/syntax"
)

// block is a piece of code in a document.
type block struct {
	where, language, text string
}

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// blocksOf are the fenced pieces of code of a document.
func blocksOf(t *testing.T, name string) []block {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	for _, m := range fence.FindAllSubmatchIndex(text, -1) {
		line := 1 + bytes.Count(text[:m[0]], []byte("\n"))
		all = append(all, block{fmt.Sprintf("%s:%d", name, line), string(text[m[2]:m[3]]), string(text[m[4]:m[5]])})
	}
	return all
}

// scriptsOf are the shell scripts in a YAML text: the values that say skiff, or that stand where CI systems have scripts.
func scriptsOf(t *testing.T, where, text string) []string {
	t.Helper()
	var scripts []string
	var walk func(key string, n *yaml.Node)
	walk = func(key string, n *yaml.Node) {
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				walk(n.Content[i].Value, n.Content[i+1])
			}
		case yaml.ScalarNode:
			if slices.Contains([]string{"run", "script", "before_script", "commands", "command", "args"}, key) {
				scripts = append(scripts, n.Value)
			}
		default:
			// A list may be the words of one command, as in a pod.
			if key == "command" && n.Kind == yaml.SequenceNode && len(n.Content) > 0 && path.Base(n.Content[0].Value) == "skiff" {
				var words []string
				for _, c := range n.Content {
					words = append(words, "'"+c.Value+"'")
				}
				scripts = append(scripts, strings.Join(words, " "))
				return
			}
			for _, c := range n.Content {
				walk(key, c)
			}
		}
	}
	for dec := yaml.NewDecoder(strings.NewReader(text)); ; {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return scripts
		}
		if err != nil {
			t.Errorf("%s: %v", where, err)
			return nil
		}
		walk("", &n)
	}
}

// expression is one of a CI system in a script.
var expression = regexp.MustCompile(`\$\{\{[^}]*\}\}|\$\[\[[^\]]*\]\]|\$\(params\.[a-z]+\)|\$\(workspaces[^)]*\)`)

// skiffCalls are the calls of skiff in a shell script, as words; what the shell would expand is X in them. The script is one of bash.
func skiffCalls(t *testing.T, where, script string) [][]string {
	t.Helper()
	f, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(expression.ReplaceAllString(script, "X")), where)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return nil
	}
	var calls [][]string
	syntax.Walk(f, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		var words []string
		for _, w := range call.Args {
			words = append(words, wordText(w))
		}
		if path.Base(words[0]) == "skiff" {
			calls = append(calls, words[1:])
		}
		return true
	})
	return calls
}

// wordText is a word with X for what is expanded, be it one word or all members of an array.
func wordText(w *syntax.Word) string {
	var b strings.Builder
	var add func(parts []syntax.WordPart)
	add = func(parts []syntax.WordPart) {
		for _, p := range parts {
			switch p := p.(type) {
			case *syntax.Lit:
				b.WriteString(p.Value)
			case *syntax.SglQuoted:
				b.WriteString(p.Value)
			case *syntax.DblQuoted:
				add(p.Parts)
			default:
				b.WriteString("X")
			}
		}
	}
	add(w.Parts)
	return b.String()
}

// parses says whether skiff would take a command line; nothing is run.
func parses(words []string) error {
	g := &global{args: words}
	root := newRoot(g)
	if slices.ContainsFunc(words, func(w string) bool { return slices.Contains(dockerGroups, w) }) {
		root.AddCommand(dockerWords(g)...)
	}
	ran := false
	var pretend func(cmd *cobra.Command)
	pretend = func(cmd *cobra.Command) {
		if cmd.RunE != nil || cmd.Run != nil {
			cmd.Run, cmd.RunE = nil, func(cmd *cobra.Command, _ []string) error { ran = cmd.HasParent(); return nil }
		}
		for _, c := range cmd.Commands() {
			pretend(c)
		}
	}
	pretend(root)
	root.SetArgs(words)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	if err := root.Execute(); err != nil {
		return err
	}
	if !ran && !slices.Contains(words, "--help") && !slices.Contains(words, "--version") && !slices.Contains(words, "completion") {
		return errors.New("no command")
	}
	return nil
}

// TestDocumentedCommands: every command of skiff in the pages for those who come from elsewhere, in the action and in the template, is one
// that this skiff takes; their YAML can be read, their shell, too.
func TestDocumentedCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/from-*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	check := func(where, script string) {
		for _, call := range skiffCalls(t, where, script) {
			seen[strings.SplitN(where, ":", 2)[0]]++
			if err := parses(call); err != nil {
				t.Errorf("%s: skiff %s: %v", where, strings.Join(call, " "), err)
			}
		}
	}
	pages = append(pages, "../../docs/ci.md", "../../docs/install.md")
	for _, page := range pages {
		for _, b := range blocksOf(t, page) {
			switch b.language {
			case "sh":
				check(b.where, b.text)
			case "yaml":
				for _, script := range scriptsOf(t, b.where, b.text) {
					check(b.where, script)
				}
			default:
				t.Errorf("%s: say of what language it is: sh or yaml", b.where)
			}
		}
	}
	for _, name := range []string{"../../action.yml", "../../templates/skiff.yml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range scriptsOf(t, name, string(text)) {
			check(name, script)
		}
		pages = append(pages, name)
	}
	for _, page := range pages {
		if seen[page] == 0 {
			t.Errorf("%s: no command of skiff was found", page)
		}
	}
}

// TestDocumentedCommandsCheck: what is no command of skiff's is found.
func TestDocumentedCommandsCheck(t *testing.T) {
	for script, good := range map[string]bool{
		`skiff build -t "$TAG" .`: true, `printf x | skiff login -u a --password-stdin ghcr.io`: true, `skiff image ls`: true,
		`skiff biuld .`: false, `skiff build --nix .`: false, `skiff build`: false, `skiff tag a`: false, `skiff`: false,
		`if x; then skiff check --format; fi`: false,
	} {
		calls := skiffCalls(t, "test", script)
		if len(calls) != 1 {
			t.Errorf("%s: %d calls", script, len(calls))
			continue
		}
		if err := parses(calls[0]); (err == nil) != good {
			t.Errorf("%s: %v", script, err)
		}
	}
}
