package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestHelpWidth: the help of every verb can be read at 80 columns.
func TestHelpWidth(t *testing.T) {
	root := newRoot(&global{})
	root.InitDefaultHelpCmd()
	for _, cmd := range append([]*cobra.Command{root}, root.Commands()...) {
		var out bytes.Buffer
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		if out.Len() == 0 {
			t.Errorf("%s: no help", cmd.Name())
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > helpWidth {
				t.Errorf("%s: %d columns: %s", cmd.Name(), n, line)
			}
		}
	}
}

// TestBuildGroups: every flag of build that is shown stands in one group of its help, ten in the first.
func TestBuildGroups(t *testing.T) {
	cmd := newBuild(&global{})
	var grouped []string
	for _, g := range buildGroups {
		grouped = append(grouped, g.flags...)
	}
	if n := len(buildGroups[0].flags); n != 10 {
		t.Errorf("the first group has %d flags", n)
	}
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			flags = append(flags, f.Name)
		}
	})
	slices.Sort(flags)
	slices.Sort(grouped)
	if !slices.Equal(flags, grouped) {
		t.Errorf("flags %q\ngroups %q", flags, grouped)
	}
}

func TestNearest(t *testing.T) {
	verbs := []string{"build", "images", "inspect", "login", "logout", "prune", "pull", "push", "rmi", "run", "save", "tag", "version"}
	for word, want := range map[string]string{
		"ps": "", "exec": "", "logs": "", "stop": "", "up": "", "cp": "", "top": "", "kill": "", "x": "", "buildx": "build",
		"biuld": "build", "bulid": "build", "psuh": "push", "pul": "pull", "image": "images", "imag": "images", "insp": "inspect", "rm": "rmi",
	} {
		if got := nearest(word, verbs); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
