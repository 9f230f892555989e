package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestFlagWords: each flag that has words to complete is one of some verb, so that a flag that changes its name does not lose them.
func TestFlagWords(t *testing.T) {
	var flags []string
	for _, cmd := range newRoot(&global{}).Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				flags = append(flags, f.Name, cmd.Name()+" "+f.Name)
			}
		})
	}
	for name := range flagWords {
		if !slices.Contains(flags, name) {
			t.Errorf("no verb has the flag %s", name)
		}
	}
}

// TestManPages: each command has its page with all of its flags, and groff, where it is there, finds nothing wrong with it.
func TestManPages(t *testing.T) {
	groff, noGroff := exec.LookPath("groff")
	for _, cmd := range documented(newRoot(&global{})) {
		page := manPage(cmd)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(page, roff("--"+f.Name)) {
				t.Errorf("%s: --%s is not there", cmd.CommandPath(), f.Name)
			}
		})
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, "'") {
				t.Errorf("%s: a text is read as a request: %s", cmd.CommandPath(), line)
			}
		}
		if noGroff != nil {
			continue
		}
		lint := exec.Command(groff, "-man", "-ww", "-Tutf8", "-z")
		lint.Stdin = strings.NewReader(page)
		if said, err := lint.CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("%s: groff: %v %s", cmd.CommandPath(), err, said)
		}
	}
}

// TestMatching: of a list with commas the last member is completed.
func TestMatching(t *testing.T) {
	for begun, want := range map[string]string{
		"li": "linux/amd64 linux/arm64", "linux/amd64,linux/ar": "linux/amd64,linux/arm64", "x": "",
	} {
		got, d := matching([]string{"linux/amd64", "linux/arm64"}, begun)
		if strings.Join(got, " ") != want || d&cobra.ShellCompDirectiveNoFileComp == 0 {
			t.Errorf("%s: %q %v", begun, got, d)
		}
	}
}
