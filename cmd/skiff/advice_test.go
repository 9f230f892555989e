package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestAdviceWorks: each command or flag that an error proposes does what it is proposed for.
func TestAdviceWorks(t *testing.T) {
	registry := skifftest.NewRegistry(t, nil)
	img := skifftest.ShellImage(t)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"golang:tip", "golang:latest"} {
		registry.Push(t, tag, img)
	}
	// A golang image that the built-in base cannot stand for, and that cannot be had: a build context that stands in for it.
	advice := regexp.MustCompile(`--build-context (\S+=docker-image://REGISTRY/\S+)`)
	for _, from := range []string{
		"golang@" + digest.String(), "golang:tip", "golang:tip@" + digest.String(),
	} {
		dir := skifftest.Files(t, ".config/skiff/config.json", `{"mirrors":{"docker.io":["http://127.0.0.1:1"]}}`) // nobody answers there
		context := skifftest.Files(t, "Dockerfile", "FROM "+from+"\nRUN echo it runs\n")
		out, code := command(t, dir, "build", context)
		found := advice.FindStringSubmatch(out)
		if code == 0 || found == nil {
			t.Errorf("FROM %s: exit code %d, no advice of the kind:\n%s", from, code, out)
			continue
		}
		flag := strings.Replace(found[1], "REGISTRY", registry.Host, 1)
		if out, code := command(t, dir, "build", "--build-context", flag, context); code != 0 || !strings.Contains(out, "it runs") {
			t.Errorf("FROM %s: --build-context %s: exit code %d\n%s", from, flag, code, out)
		}
	}

	// Commands that errors name in full.
	dir := t.TempDir()
	context := skifftest.Files(t, "Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	for _, c := range []struct {
		fails  []string
		advice string   // a pattern of the command in what is printed
		run    []string // the command, with what the advice leaves to the user; nil: as it is
	}{
		{[]string{"build"}, `for example: skiff (build -t app:1 \.)`, []string{"build", "-t", "app:1", context}},
		{[]string{"build", "--nosuch", context}, `see skiff (build --help)`, nil},
		{[]string{"nosuch"}, `see skiff (--help)`, nil},
		{[]string{"run", "nosuch:1"}, `skiff (images) lists`, nil},
		{[]string{"inspect", "nosuch"}, "see `skiff (images)`", nil},
		{[]string{"save", "--", "nosuch"}, "see `skiff (images)`", nil},
		{[]string{"inspect"}, `for example: skiff (inspect app:1)`, nil},
		{[]string{"tag"}, `for example: skiff (tag app:1 registry.example.com/app:1)`, nil},
		{[]string{"save"}, `for example: skiff (save -o app.tar app:1)`, []string{"save", "-o", filepath.Join(dir, "app.tar"), "app:1"}},
		{[]string{"load", "x"}, `for example: skiff (load -i app.tar)`, []string{"load", "-i", filepath.Join(dir, "app.tar")}},
		{[]string{"check"}, `for example: skiff (check app:1)`, nil},
		{[]string{"images", "a", "b"}, `for example: skiff (images app)`, nil},
		{[]string{"prune", "x"}, `for example: skiff (prune)`, nil},
		{[]string{"rmi"}, `for example: skiff (rmi app:1)`, nil},
	} {
		out, code := command(t, dir, c.fails...)
		found := regexp.MustCompile(c.advice).FindStringSubmatch(out)
		if code == 0 || found == nil {
			t.Errorf("%q: exit code %d, no %q:\n%s", c.fails, code, c.advice, out)
			continue
		}
		run := c.run
		if run == nil {
			run = strings.Fields(found[1])
		}
		if out, code := command(t, dir, run...); code != 0 {
			t.Errorf("%q proposes %q, which ends with %d:\n%s", c.fails, found[1], code, out)
		}
	}
}

// TestSummaryNamesWhatIsThere: a build names no image for skiff check that only an archive has.
func TestSummaryNamesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	context := skifftest.Files(t, "Dockerfile", "FROM scratch\nCOPY . /\n", "go.mod", "module x\n", "main.go", "package main\n", "app", "#!/bin/sh\n")
	advice := regexp.MustCompile(`(?m)^skiff (check \S+) tells more of:$`)
	for _, c := range []struct {
		flags []string
		named bool
	}{
		{nil, true}, {[]string{"-t", "app:1"}, true}, {[]string{"-t", "gone:1", "-o", "type=oci,dest=" + filepath.Join(dir, "o.tar")}, false},
		{[]string{"-t", "gone:1", "-o", filepath.Join(dir, "out")}, false}, {[]string{"-t", "both:1", "--load", "-o", "type=oci,dest=" + filepath.Join(dir, "o.tar")}, true},
	} {
		out, code := command(t, dir, append(append([]string{"build"}, c.flags...), context)...)
		found := advice.FindStringSubmatch(out)
		if code != 0 || (found != nil) != c.named || !strings.Contains(out, "warning: sources: ") {
			t.Errorf("%q: exit code %d\n%s", c.flags, code, out)
		}
		if found == nil {
			continue
		}
		if out, code := command(t, dir, strings.Fields(found[1])...); code != exitFailure || !strings.Contains(out, "sources") {
			t.Errorf("%s: exit code %d\n%s", fmt.Sprint(found[1]), code, out)
		}
	}
}
