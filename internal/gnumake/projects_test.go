package gnumake

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var projects = flag.String("projects", "", "a folder with projects, to compare make -n of their targets with the real make's; their $(shell) runs")

// TestProjects compares make -n of the targets of public projects. It is run by hand, in a sandbox: docs/make.md has its table.
func TestProjects(t *testing.T) {
	if *projects == "" {
		t.Skip("-projects names no folder")
	}
	program, version := oracle(t)
	if version == "" {
		t.Fatalf("a GNU make of one of the versions %q is not installed", versions)
	}
	home := t.TempDir()
	entries, err := os.ReadDir(*projects)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		dir := filepath.Join(*projects, e.Name())
		file := ""
		for _, name := range []string{"GNUmakefile", "makefile", "Makefile"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				file = filepath.Join(dir, name)
				break
			}
		}
		if file == "" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		same, refused, other, why := 0, 0, 0, ""
		for _, target := range targetsOf(string(data)) {
			want, wantErr, wantCode := realDry(t, program, home, dir, target)
			got, gotErr, gotCode, err := ourDry(t, version, home, dir, target)
			switch {
			case err != nil:
				refused++
				why = err.Error()
			case want == got && wantCode == gotCode && wantErr == gotErr:
				same++
			default:
				other++
				t.Logf("%s %s: %s", e.Name(), target, firstDifference(fmt.Sprint(want, wantErr, wantCode), fmt.Sprint(got, gotErr, gotCode)))
			}
		}
		fmt.Printf("| %s | %d | %d | %d | %s |\n", e.Name(), same, refused, other, strings.ReplaceAll(why, dir+"/", ""))
	}
}

var targetLine = regexp.MustCompile(`(?m)^([A-Za-z][A-Za-z0-9_.-]*):(?:[^=:]|$)`)

// targetsOf are the first targets of a Makefile, and the default goal.
func targetsOf(text string) []string {
	all := []string{""}
	for _, m := range targetLine.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(all, m[1]) && len(all) < 12 {
			all = append(all, m[1])
		}
	}
	return all
}

func dryArgs(target string) []string {
	args := []string{"-n"}
	if target != "" {
		args = append(args, target)
	}
	return args
}

// dryEnv is the environment of both makes. A go command that a Makefile calls writes into home.
func dryEnv(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C", "GOPROXY=off", "GOFLAGS=-mod=mod", "GOCACHE=" + os.Getenv("GOCACHE"), "GOTOOLCHAIN=local"}
}

// clock is what differs from run to run.
var clock = regexp.MustCompile(`\d{4}-?\d\d-?\d\d[-T_ ]?\d\d:?\d\d(:?\d\d)?|\d\d:\d\d:\d\d|\b\d{10}\b|--jobserver-auth=\S+|tmp\.\w+|elm-\w{10}|(?m)^go: downloading .*\n`)

func realDry(t *testing.T, program, home, dir, target string) (string, string, int) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = append([]string{"make"}, dryArgs(target)...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, dryEnv(home), time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its code is what is compared
	return clock.ReplaceAllString(out.String(), "T"), clock.ReplaceAllString(errs.String(), "T"), cmd.ProcessState.ExitCode()
}

func ourDry(t *testing.T, version, home, dir, target string) (string, string, int, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	m := &Make{Version: version, Args: dryArgs(target), Env: dryEnv(home), Dir: dir, Files: Root(""), Runner: processes{version}, Stdout: &out, Stderr: &errs}
	code, err := m.Run(ctx)
	return clock.ReplaceAllString(out.String(), "T"), clock.ReplaceAllString(errs.String(), "T"), code, err
}

func firstDifference(a, b string) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	from := max(0, i-60)
	return fmt.Sprintf("real %q, ours %q", a[from:min(len(a), i+160)], b[from:min(len(b), i+160)])
}
