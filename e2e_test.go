package skiff_test

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// stateRoot is the state of all tests here: each toolchain is unpacked once, and its standard library compiled once.
var stateRoot string

func TestMain(m *testing.M) {
	var err error
	if stateRoot, err = os.MkdirTemp("", "skiff-e2e"); err != nil {
		log.Fatal(err)
	}
	code := skifftest.Main(m, removeState)
	os.Remove(stateRoot) // still empty where no test used it
	os.Exit(code)
}

// removeState takes the way that users have: files may belong to subordinate ids, which only skiff can remove.
func removeState(binary string) error {
	cmd := exec.Command(binary, "prune", "-a", "-f")
	cmd.Env = append(os.Environ(), "SKIFF_ROOT="+stateRoot)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("prune: %w\n%s", err, out)
	}
	for _, folder := range []string{"layers", "cache", "tmp"} {
		if left, err := os.ReadDir(filepath.Join(stateRoot, folder)); err != nil || len(left) > 0 {
			return fmt.Errorf("prune left %v in %s (%v)", left, folder, err)
		}
	}
	return os.RemoveAll(stateRoot)
}

// cli drives the skiff command with a configuration of its own.
type cli struct {
	t      *testing.T
	bin    string
	env    []string
	config string // folder
	mark   string // NAME=VALUE by which processes of this test are known
}

func newCLI(t *testing.T) *cli {
	t.Helper()
	c := &cli{t: t, mark: skifftest.NoLeftovers(t), bin: skifftest.Binary(t), config: t.TempDir()}
	c.env = append(os.Environ(), "SKIFF_ROOT="+stateRoot, "XDG_CONFIG_HOME="+c.config, "DOCKER_CONFIG="+c.config, "BUILDKIT_PROGRESS=plain")
	return c
}

// mirror makes skiff ask host first for what docker.io has.
func (c *cli) mirror(host string) {
	c.t.Helper()
	text, err := json.Marshal(map[string]any{"mirrors": map[string][]string{"docker.io": {"http://" + host}}})
	if err != nil {
		c.t.Fatal(err)
	}
	dir := filepath.Join(c.config, "skiff")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// try runs skiff and returns what it printed, standard output after standard error, and its exit code.
func (c *cli) try(args ...string) (out string, code int) {
	c.t.Helper()
	cmd := exec.Command(c.bin, args...)
	cmd.Env = c.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return stderr.String() + stdout.String(), cmd.ProcessState.ExitCode()
}

// run is try for what must work.
func (c *cli) run(args ...string) string {
	c.t.Helper()
	out, code := c.try(args...)
	if code != 0 {
		c.t.Fatalf("skiff %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// TestReadme does what the README's first lines say, then builds again unchanged and with one line changed.
func TestReadme(t *testing.T) {
	skifftest.Long(t, "it builds the README's example")
	c := newCLI(t)
	src := copyTree(t, "examples/slackbot")
	build := []string{"build", "-t", "slackbot:0.1", src}

	out := c.run(build...)
	table := regexp.MustCompile(`(?m)^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE\nslackbot +0\.1 +([0-9a-f]{12}) +.* +(\d\.\d\d?)MB$`).FindStringSubmatch(out)
	if table == nil {
		t.Fatalf("no table:\n%s", out)
	}
	if !regexp.MustCompile(`(?m)^The stages weighed .*; .* of it ships\.$`).MatchString(out) {
		t.Errorf("no line on what the stages weighed:\n%s", out)
	}
	for _, note := range []string{"built-in Go 1.26", "gocache: ", "force: "} {
		if !strings.Contains(out, note) {
			t.Errorf("%q is not said:\n%s", note, out)
		}
	}

	said, code := c.try("run", "slackbot:0.1")
	if code != 1 || !strings.Contains(said, "slackbot: SLACK_BOT_TOKEN is not set") {
		t.Errorf("run: exit code %d: %s", code, said)
	}

	again := c.run(build...)
	if !strings.Contains(again, table[1]) || !strings.Contains(again, "CACHED") || strings.Contains(again, "go: downloading") {
		t.Errorf("unchanged:\n%s", again)
	}

	bot := filepath.Join(src, "bot.go")
	text, err := os.ReadFile(bot)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bot, bytes.Replace(text, []byte("pong\""), []byte("pong!\""), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	changed := c.run(build...)
	if strings.Contains(changed, table[1]) || strings.Contains(changed, "go: downloading") {
		t.Errorf("one line changed, the image is the same or modules came again:\n%s", changed)
	}
}

// Test2021 builds the program of 2021 with the true Go 1.13.
func Test2021(t *testing.T) {
	skifftest.Long(t, "it compiles a program with an older Go")
	c := newCLI(t)
	out := c.run("build", "-t", "old:1", "examples/slackbot-2021")
	if !strings.Contains(out, "built-in Go 1.13.15") {
		t.Errorf("which Go:\n%s", out)
	}
	said, code := c.try("run", "old:1")
	if code != 1 || !strings.Contains(said, "slackbot: SLACK_BOT_TOKEN is not set") {
		t.Errorf("run: exit code %d: %s", code, said)
	}
	dir := t.TempDir()
	c.run("build", "-o", "type=local,dest="+dir, "examples/slackbot-2021")
	version, err := exec.Command("go", "version", filepath.Join(dir, "slackbot")).Output()
	if err != nil || !strings.Contains(string(version), "go1.13.15") {
		t.Errorf("go version of the program: %s, %v", version, err)
	}
}

// program uses packages that would show a difference: net and os/user with cgo or without, embedded paths, a module's
// version.
const program = `package main

import (
	"fmt"
	"net"
	"os/user"
	"runtime/debug"
)

func main() {
	u, err := user.Current()
	fmt.Println(u, err)
	fmt.Println(net.LookupHost("localhost"))
	fmt.Println(debug.ReadBuildInfo())
}
`

// TestBuiltinBaseGivesTheImagesBinary holds the rule of the built-in base: bit for bit the binary that an image of that
// Go version gives. The image is a plain root file system made here, with this machine's toolchain.
func TestBuiltinBaseGivesTheImagesBinary(t *testing.T) {
	skifftest.Long(t, "it compiles programs on two bases")
	version := strings.TrimPrefix(skifftest.GoVersion(t), "go")
	r := skifftest.NewRegistry(t, nil)
	c := newCLI(t)
	c.mirror(r.Host)
	tag := version + "-alpine"
	r.Push(t, "library/golang:"+tag, skifftest.GolangImage(t))
	for _, k := range []struct{ name, env, flags string }{
		{"plain", "", ""},
		{"stripped", "CGO_ENABLED=0", "-ldflags '-s -w'"}, // not -trimpath: the standard library would be compiled again
	} {
		for _, git := range []bool{false, true} {
			name := k.name
			files := []string{
				"go.mod", "module example.com/program\n\ngo 1.21\n",
				"main.go", program,
				"Dockerfile", "FROM golang:" + tag + " AS builder\nWORKDIR /src\nCOPY . .\n" +
					"RUN " + k.env + " go build " + k.flags + " -o app .\nFROM scratch\nCOPY --from=builder /src/app /app\n",
			}
			if git {
				name += " with .git"
				files = append(files, ".git/HEAD", "ref: refs/heads/main\n", ".git/config", "[core]\n\tbare = false\n", ".git/refs/", "", ".git/objects/", "")
			}
			t.Run(name, func(t *testing.T) {
				src := skifftest.Files(t, files...)
				var binaries [][]byte
				for _, base := range []string{"builtin", "image"} {
					dir := t.TempDir()
					out := c.run("build", "--go-base="+base, "-o", "type=local,dest="+dir, src)
					if builtin := strings.Contains(out, "built-in Go "+version); builtin != (base == "builtin") {
						t.Errorf("--go-base=%s: built-in base: %v\n%s", base, builtin, out)
					}
					b, err := os.ReadFile(filepath.Join(dir, "app"))
					if err != nil {
						t.Fatal(err)
					}
					binaries = append(binaries, b)
				}
				if !bytes.Equal(binaries[0], binaries[1]) {
					t.Errorf("the binaries differ: %d and %d bytes", len(binaries[0]), len(binaries[1]))
				}
			})
		}
	}
}

// TestVersionOfRepository: with a .git in the build context, git describe and the stamp of go build tell what they tell in the
// image, by the machine's git, which no step leaves behind.
func TestVersionOfRepository(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	src := skifftest.Files(t, "go.mod", "module example.com/version\n\ngo 1.21\n",
		"main.go", "package main\n\nvar version string\n\nfunc main() { print(version) }\n",
		"Dockerfile", "FROM golang:1.26 AS builder\nENV CGO_ENABLED=0\nWORKDIR /src\nCOPY . .\n"+
			"RUN go build -ldflags \"-X main.version=$(git describe --tags --dirty)\" -o app .\n"+
			"RUN git status --porcelain > status; git log -1 --format=%H > revision\n"+
			"FROM scratch\nCOPY --from=builder /src/app /src/status /src/revision /\nCMD [\"/app\"]\n")
	git := func(args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@a")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	git("add", ".")
	git("commit", "-q", "-m", "first")
	git("tag", "v1.2.3")
	revision := git("rev-parse", "HEAD")

	c, dir := newCLI(t), t.TempDir()
	if out := c.run("build", "-t", "version:1", "-o", "type=local,dest="+dir, src); !strings.Contains(out, "git is this machine's") {
		t.Errorf("not said:\n%s", out)
	}
	for name, want := range map[string]string{"status": "?? app\n?? status\n", "revision": revision + "\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	info, err := buildinfo.ReadFile(filepath.Join(dir, "app"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: "false"}} {
		if !slices.Contains(info.Settings, want) {
			t.Errorf("no %v in %v", want, info.Settings)
		}
	}
	if said, err := exec.Command(filepath.Join(dir, "app")).CombinedOutput(); err != nil || string(said) != "v1.2.3" {
		t.Errorf("the program says %q, %v", said, err)
	}
	// The layers hold none of it: what the machine lends is bound while a step runs.
	if left, err := filepath.Glob(filepath.Join(stateRoot, "layers", "*", "fs", "usr", "libexec", "skiff-git", "*")); err != nil || len(left) > 0 {
		t.Errorf("left in layers: %v, %v", left, err)
	}
}

// planter writes into Go's build cache and says whether somebody had before.
const planter = `package main

import (
	"fmt"
	"os"
)

func main() {
	const file = "/root/.cache/go-build/planted"
	_, err := os.Stat(file)
	fmt.Println("planted before:", err == nil)
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		panic(err)
	}
}
`

// TestPlantedCacheEntryIsDropped: what a program of a project writes into the build cache is no entry, and no later step sees it.
func TestPlantedCacheEntryIsDropped(t *testing.T) {
	skifftest.Long(t, "it compiles programs")
	c := newCLI(t)
	project := func() string {
		return skifftest.Files(t, "go.mod", "module example.com/planter\n\ngo 1.21\n", "main.go", planter, "Dockerfile",
			"FROM golang:1.26-alpine AS builder\nWORKDIR /src\nCOPY . .\nRUN go build -o /dev/null .\nRUN go run .\n"+
				"FROM scratch\nCOPY --from=builder /src/go.mod /\n")
	}
	evil, good := project(), project()
	for i, k := range []struct{ dir, want string }{{evil, "false"}, {evil, "false"}, {good, "false"}} {
		if err := os.WriteFile(filepath.Join(k.dir, "main.go"), fmt.Appendf(nil, "%s// %d\n", planter, i), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := c.run("build", k.dir); !strings.Contains(out, "planted before: "+k.want) {
			t.Errorf("build %d: not \"planted before: %s\":\n%s", i, k.want, out)
		}
	}
}

// copyTree copies a folder of the checkout, to be changed.
func copyTree(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(dir))
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}
