package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// isGoRoot tells whether a folder is the root of a Go module or workspace.
func isGoRoot(dir string) bool {
	for _, name := range []string{"go.mod", "go.work"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && !st.IsDir() {
			return true
		}
	}
	return false
}

// meantPackages are hints for who named a folder that is no program: the main packages of the module or workspace there.
func meantPackages(dir string) []string {
	const most = 8
	mains := mainFolders(dir)
	switch {
	case len(mains) == 0:
		return []string{"give the folder of a main package: skiff build -t app:1 ./cmd/app"}
	case len(mains) == 1:
		return []string{"the program here is in " + mains[0] + ": skiff build -t app:1 " + mains[0]}
	}
	more := ""
	if n := len(mains) - most; n > 0 {
		mains, more = mains[:most], fmt.Sprintf(" and %d more", n)
	}
	return []string{
		"the programs here are in " + strings.Join(mains, ", ") + more,
		"skiff build -t app:1 " + mains[0] + " makes an image of one, -t PREFIX/ with several folders one of each",
	}
}

// mainFolders are the folders of main packages below dir, as arguments for skiff build; none where go cannot say.
func mainFolders(dir string) []string {
	patterns := []string{"./..."}
	if text, err := os.ReadFile(filepath.Join(dir, "go.work")); err == nil {
		work, err := modfile.ParseWork("go.work", text, nil)
		if err != nil {
			return nil
		}
		patterns = nil
		for _, use := range work.Use {
			patterns = append(patterns, strings.TrimSuffix(use.Path, "/")+"/...")
		}
	}
	cmd := exec.Command("go", append([]string{"list", "-e", "-f", `{{if eq .Name "main"}}{{.Dir}}{{end}}`, "--"}, patterns...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	here, err := os.Getwd()
	if err != nil {
		return nil
	}
	var folders []string
	for folder := range strings.Lines(string(out)) {
		if folder = strings.TrimSpace(folder); folder == "" {
			continue
		}
		if rel, err := filepath.Rel(here, folder); err == nil {
			folder = "./" + filepath.ToSlash(rel)
		}
		folders = append(folders, folder)
	}
	slices.Sort(folders)
	return folders
}
