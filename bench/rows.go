package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// row is one line of the table: what the tools do with a project.
type row struct {
	name, title string
	project     *project
	change      func(dir string, i int) error // before each run, not timed; nil: nothing changes
	cold        bool                          // before each run the tool's state is emptied, but for its base image
	std         bool                          // with cold: Go's cache of the user holds the standard library
	of          string                        // the tool that ratios are of
	mark        string                        // what is promised for skiff
	tools       map[string]command
}

const (
	manyFiles = 50_000
	fileBytes = 10_000
)

var (
	oneFile = tree(manyFiles, fileBytes, "FROM scratch\nCOPY "+treeFile(7)+" /\n")
	allOf   = tree(manyFiles, fileBytes, "FROM scratch\nCOPY . /src\n")
)

// dockerfiles are the tools that take a Dockerfile, and plain go beside them.
func dockerfiles(output bool) map[string]command {
	return map[string]command{"skiff": skiffDockerfile(), "buildkit": buildkitDockerfile(output), "buildah": buildahDockerfile(),
		"go": plainGo("-ldflags", "-s -w", "-o", "../state/main", ".")}
}

func packages(pattern string) map[string]command {
	return map[string]command{"skiff": skiffPackages(pattern), "ko": koPackages(pattern),
		"go": plainGo("-trimpath", "-ldflags", "-s -w", "-o", "../state/bin/", pattern)}
}

func contexts(output bool) map[string]command {
	m := map[string]command{"skiff": skiffDockerfile(), "buildkit": buildkitDockerfile(output), "buildah": buildahDockerfile(), "stat": statAll}
	if output {
		m["skiff"] = func(b *bench, p place) *exec.Cmd {
			return skiffDockerfile("-o", "type=oci,dest="+filepath.Join(p.state, "out.tar"))(b, p)
		}
		delete(m, "stat")
	}
	return m
}

var rows = []row{
	{name: "first-unchanged", title: "first Dockerfile, nothing changed", project: slackbot, of: "buildkit", mark: "≤ 0.5 × BuildKit", tools: dockerfiles(false)},
	{name: "first-line", title: "… one line changed", project: slackbot, change: editBot, of: "go", mark: "≤ 1.2 × plain go", tools: dockerfiles(true)},
	{name: "first-cold", title: "… cold, base image present, empty caches", project: slackbot, cold: true, of: "go", mark: "≤ 1.05 × plain go", tools: dockerfiles(true)},
	{name: "first-std", title: "… cold, but the user's Go cache has the standard library", project: machines, cold: true, std: true, of: "buildkit", mark: "≤ 0.4 × BuildKit", tools: dockerfiles(true)},
	{name: "tuned-line", title: "tuned Dockerfile (cache mounts), one line changed", project: tuned, change: editBot, of: "go", mark: "≤ 1.15 × plain go", tools: dockerfiles(true)},
	{name: "package-unchanged", title: "package without Dockerfile, nothing changed", project: plain, of: "go", mark: "≤ 0.3 × plain go", tools: packages(".")},
	{name: "package-line", title: "… one line changed", project: plain, change: editBot, of: "go", mark: "≤ 1.15 × plain go", tools: packages(".")},
	{name: "mains-unchanged", title: "20 main packages, nothing changed", project: mains(20), of: "go", mark: "≤ 1 × plain go", tools: packages("./cmd/...")},
	{name: "mains-one", title: "… one main package changed", project: mains(20), change: editMain, of: "go", mark: "≤ 1.2 × plain go", tools: packages("./cmd/...")},
	{name: "mains-shared", title: "… a shared package changed", project: mains(20), change: editShared, of: "go", mark: "≤ 1.1 × plain go", tools: packages("./cmd/...")},
	{name: "context-one", title: "context of 50,000 files, 500 MB, one file copied: unchanged", project: oneFile, of: "buildkit", mark: "≤ 0.5 × BuildKit", tools: contexts(false)},
	{name: "context-all", title: "… everything copied: unchanged", project: allOf, of: "stat", mark: "≤ 0.4 s", tools: contexts(false)},
	{name: "context-changed", title: "… everything copied: one file changed, archive written", project: allOf, change: editTree(manyFiles), of: "buildkit", mark: "≤ 3 s", tools: contexts(true)},
}

func printList(w io.Writer) {
	for _, r := range rows {
		fmt.Fprintf(w, "%-18s %s\n", r.name, r.title)
	}
	for _, s := range growthSeries {
		fmt.Fprintf(w, "%-18s with -growth: %s\n", s.name, s.title)
	}
}

// before brings a tool's place to where a run of the row starts.
func (b *bench) before(r row, tool string, p place, i int) error {
	if r.cold {
		if err := b.empty(tool, p); err != nil {
			return fmt.Errorf("empty the state: %w", err)
		}
	}
	if r.std && (tool == "skiff" || tool == "go") {
		cmd := b.command(p.src, "go", "build", "std")
		cmd.Env = append(cmd.Env, goCaches(p)...)
		if err := quiet(cmd); err != nil {
			return err
		}
	}
	if r.change != nil {
		// A number that no earlier run, of this row or another, has used: nothing may be known.
		if err := r.change(p.src, os.Getpid()%10_000*1000+i); err != nil {
			return err
		}
	}
	return nil
}
