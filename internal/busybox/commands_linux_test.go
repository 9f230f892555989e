package busybox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	record       = flag.Bool("update", false, "record in testdata what real images do: needs the folders of their root file systems")
	alpineFolder = flag.String("alpine", "", "a folder with Alpine's root file system, for -update")
	debianFolder = flag.String("debian", "", "a folder with Debian's root file system, for -update")
)

// outcome is what a script does: the words of errors that commands print are their own, so of those only whether there were any.
type outcome struct {
	Out   string
	Errs  bool `json:",omitempty"`
	Code  int
	Files []string `json:",omitempty"` // of /work, and the lines of account files
}

// recorded is the record of one snippet.
type recorded struct {
	Script  string
	Refused bool `json:",omitempty"` // the base must not serve it
	// Machine says that Debian's tools on the machine that recorded it did the same: there it can be asked again.
	Machine bool `json:",omitempty"`
	outcome
}

func readSnippets(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("testdata/commands.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n%%\n")
}

var accountFiles = []string{"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"}

// lookAt lists what a script left below root.
func lookAt(t *testing.T, root string, before map[string]string) []string {
	t.Helper()
	var all []string
	for _, top := range []string{"work", "home", "data", "app"} {
		top = filepath.Join(root, top)
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error { // a folder that is missing
			if err != nil || path == filepath.Join(root, "work") || path == filepath.Join(root, "home") {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			owner := info.Sys().(*syscall.Stat_t)
			line := fmt.Sprintf("%s %v %d:%d", strings.TrimPrefix(path, root), info.Mode(), owner.Uid, owner.Gid)
			switch {
			case info.Mode().IsRegular():
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				line += " " + string(data)
			case info.Mode()&fs.ModeSymlink != 0:
				target, err := os.Readlink(path)
				if err != nil {
					return err
				}
				line += " -> " + target
			}
			all = append(all, strings.ReplaceAll(line, root, ""))
			return nil
		})
	}
	today := strconv.FormatInt(time.Now().Unix()/86400, 10)
	for _, file := range accountFiles {
		data, _ := os.ReadFile(filepath.Join(root, file)) // missing: empty
		old := strings.Split(before[file], "\n")
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSuffix(line, "\n"); !slices.Contains(old, line) {
				all = append(all, file+" "+strings.ReplaceAll(line, ":"+today+":", ":TODAY:"))
			}
		}
	}
	return all
}

func accountsOf(root string) map[string]string {
	all := map[string]string{}
	for _, file := range accountFiles {
		data, _ := os.ReadFile(filepath.Join(root, file)) // missing: empty
		all[file] = string(data)
	}
	return all
}

// inBase runs a script by the base's commands.
func inBase(t *testing.T, v Variant, script string) (o outcome, refused error) {
	t.Helper()
	root := newRoot(t, v)
	before := accountsOf(root)
	old := syscall.Umask(0o22)
	defer syscall.Umask(old)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out, errs bytes.Buffer
	links, err := commandLinks()
	if err != nil {
		t.Fatal(err)
	}
	c := &call{
		ctx: ctx, args: []string{"sh", "-c", script}, argv0: "/bin/sh", dir: root + "/work", root: root, self: filepath.Join(links, "self"),
		env: commandEnv, stdin: in, stdout: &out, stderr: &errs,
	}
	stop := make(chan error, 1)
	c.refuse = func(err error) {
		select {
		case stop <- err:
		default:
		}
		cancel()
	}
	o.Code = runCommand(c)
	select {
	case refused = <-stop:
		return o, refused
	default:
	}
	if ctx.Err() != nil {
		t.Errorf("%s: %q does not end", v, script)
	}
	o.Out, o.Errs, o.Files = strings.ReplaceAll(out.String(), root, ""), errs.Len() > 0, lookAt(t, root, before)
	return o, nil
}

var commandEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TZ=UTC", "LC_ALL=C"}

// inImage runs a script by a program in the root file system of an image; in the machine's own where root is "/".
func inImage(t *testing.T, root, program, script string) outcome {
	t.Helper()
	work := filepath.Join(root, "work")
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir = "/work"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if root == "/" {
		root = t.TempDir()
		work = filepath.Join(root, "work")
		cmd.Dir, cmd.SysProcAttr = work, nil
	}
	if err := os.RemoveAll(work); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	before := accountsOf(root)
	cmd.Args = []string{"/bin/sh", "-c", script}
	cmd.Env = commandEnv
	cmd.WaitDelay = 2 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	o := outcome{Out: out.String(), Errs: errs.Len() > 0}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		o.Code = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		t.Fatal(err)
	}
	o.Files = lookAt(t, root, before)
	if cmd.SysProcAttr == nil {
		o.Out = strings.ReplaceAll(o.Out, root, "")
		return o
	}
	for file, data := range before {
		if data != "" {
			if err := os.WriteFile(filepath.Join(root, file), []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"work", "data", "app", "home/app", "home/b"} {
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func sameOutcome(a, b outcome) bool {
	return a.Out == b.Out && a.Errs == b.Errs && a.Code == b.Code && slices.Equal(a.Files, b.Files)
}

func shownOutcome(o outcome) string {
	data, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// TestCommandsAsInImages holds that the shell and the commands of the base do what those of the images do, or are refused. What the
// real ones do is recorded; on Debian 12 the machine's own are asked again.
func TestCommandsAsInImages(t *testing.T) {
	for v, folder := range map[Variant]string{Alpine: *alpineFolder, Debian: *debianFolder} {
		t.Run(string(v), func(t *testing.T) { commandsAsInImage(t, v, folder) })
	}
}

func commandsAsInImage(t *testing.T, v Variant, folder string) {
	if os.Getuid() != 0 {
		t.Skip("owners and accounts are those of root")
	}
	file := "testdata/commands_" + string(v) + ".json"
	known := map[string]recorded{}
	var all []recorded
	switch data, err := os.ReadFile(file); {
	case err == nil:
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatal(err)
		}
	case !*record:
		t.Fatal(err)
	}
	for _, r := range all {
		known[r.Script] = r
	}
	all = nil
	program := "/usr/bin/dash"
	if v == Alpine {
		program = "/bin/busybox"
	}
	version, _ := os.ReadFile("/etc/debian_version") // none: another system
	live := v == Debian && strings.HasPrefix(string(version), "12.")
	served := 0
	for _, script := range readSnippets(t) {
		got, refused := inBase(t, v, script)
		want, have := known[script]
		if *record {
			r := recorded{Script: script, Refused: refused != nil, outcome: want.outcome}
			if folder != "" {
				r.outcome = inImage(t, folder, program, script)
			} else if !have {
				t.Fatalf("%q: -%s is not given", script, v)
			}
			if live && !strings.Contains(script, "add") && !strings.Contains(script, "del") {
				r.Machine = sameOutcome(r.outcome, inImage(t, "/", program, script))
			}
			want, have = r, true
			all = append(all, r)
		}
		if refused == nil {
			served++
		}
		switch {
		case !have:
			t.Errorf("%q is not recorded", script)
		case want.Refused != (refused != nil):
			t.Errorf("%q: refused %v (%v), recorded %v", script, refused != nil, refused, want.Refused)
		case refused != nil:
			t.Logf("%q: %v", script, refused)
		case !sameOutcome(want.outcome, got):
			t.Errorf("%q\n image %s\n base  %s", script, shownOutcome(want.outcome), shownOutcome(got))
		case live && want.Machine && !*record:
			if now := inImage(t, "/", program, script); !sameOutcome(now, got) {
				t.Errorf("%q\n machine %s\n base  %s", script, shownOutcome(now), shownOutcome(got))
			}
		}
	}
	t.Logf("%d of %d served", served, len(readSnippets(t)))
	if !*record {
		return
	}
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
