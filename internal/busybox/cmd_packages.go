package busybox

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/rootfiles"
)

// packageCommands answer for package managers. What is asked of them was looked at before the step ran
// ([Wrap]): packages that a later command needs are refused there, so what remains is habit.
func packageCommands() map[string]command {
	return map[string]command{
		"apk":                    {run: packages, raw: true},
		"apt-get":                {run: packages, raw: true},
		"apt":                    {run: packages, raw: true},
		"update-ca-certificates": {run: updateCertificates, raw: true},
		"git":                    {run: git, raw: true},
	}
}

// PackageArgs is a package manager's command line: its verb and the packages named, without versions.
func PackageArgs(args []string) (verb string, names []string) {
	// Options that take a value, of apk and of apt-get.
	valued := map[string]bool{
		"-t": true, "--virtual": true, "-X": true, "--repository": true, "-p": true, "--root": true, "--arch": true,
		"--keys-dir": true, "--repositories-file": true, "--cache-dir": true, "-o": true, "-c": true, "--wait": true,
		"--target-release": true, "--cache-max-age": true,
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if strings.HasPrefix(arg, "-") {
			if valued[arg] {
				i++
			}
			continue
		}
		if verb == "" {
			verb = arg
			continue
		}
		if cut := strings.IndexAny(arg, "=<>~@"); cut > 0 {
			arg = arg[:cut]
		}
		names = append(names, arg)
	}
	return verb, names
}

func packages(c *call) int {
	verb, names := PackageArgs(c.args[1:])
	switch verb {
	case "add", "install":
		if _, err := os.Stat(c.system(GitProgram)); err == nil && slices.Contains(names, "git") {
			fmt.Fprintln(c.stdout, "skiff: built-in Go base: git is this machine's")
			if names = slices.DeleteFunc(names, func(n string) bool { return n == "git" }); len(names) == 0 {
				return 0
			}
		}
		fmt.Fprintf(c.stdout, "skiff: built-in Go base: %s: nothing is installed, no step here needs more than is built in\n",
			strings.Join(names, " "))
	case "update", "upgrade", "dist-upgrade", "clean", "autoclean", "del", "remove", "purge", "autoremove", "cache", "fix":
		fmt.Fprintf(c.stdout, "skiff: built-in Go base: %s %s: nothing to do\n", c.args[0], verb)
	default:
		return c.fail(1, "%s: not served by skiff's built-in Go base; --go-base=image takes the real image", verb)
	}
	return 0
}

// Where update-ca-certificates finds CAs of one's own, and where it writes all of them.
const (
	ownCertificates = "/usr/local/share/ca-certificates"
	bundleFile      = rootfiles.BundlePath
)

// updateCertificates adds the CAs that a stage put into [ownCertificates] to the bundle, as the original does.
func updateCertificates(c *call) int {
	bundle, added := slices.Clone(rootfiles.CABundle()), 0
	err := filepath.WalkDir(c.system(ownCertificates), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".crt" {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		bundle = append(append(bundle, bytes.TrimSpace(data)...), '\n')
		added++
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		return c.fail(1, "%v", err)
	}
	if added > 0 {
		if err := os.WriteFile(c.system(bundleFile), bundle, 0o644); err != nil {
			return c.fail(1, "%v", err)
		}
	}
	fmt.Fprintf(c.stdout, "skiff: built-in Go base: Mozilla's certificates and %d from %s\n", added, ownCertificates)
	return 0
}

// git is the machine's where it is bound into the step. Else it stands where the image has a git and the build context no
// repository: there every command but a few ends as git's own does outside of a repository.
func git(c *call) int {
	if code, ok := c.runMachineGit(); ok {
		return code
	}
	for i := 1; i < len(c.args); i++ {
		switch arg := c.args[i]; {
		case arg == "--version" || arg == "version" || arg == "-v":
			fmt.Fprintln(c.stdout, "git version 2.47.0")
			return 0
		case arg == "-C" || arg == "-c":
			i++
		case strings.HasPrefix(arg, "-"):
		case arg == "config":
			return 0 // safe.directory, url.….insteadOf: there is no git that would read it
		default:
			i = len(c.args)
		}
	}
	fmt.Fprintln(c.stderr, "fatal: not a git repository (or any of the parent directories): .git")
	return 128
}
