//go:build linux

package probes

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skiff-build/skiff/internal/doctor"
)

// realProgram is a program from the module proxy, and what it is asked to do.
type realProgram struct {
	module string // package path
	args   []string
	good   string // matches the output when all is well; "" is any, when it ends well
	files  map[string]string
	tool   string // a program that it runs
	serves bool   // it is ended after a while
	tried  []doctor.NeedKind
}

// realPrograms: tried are the needs whose code the arguments come to. A need that is predicted, tried, and not seen is a false
// alarm; one that is predicted and not tried stands in the table as such.
var realPrograms = []realProgram{
	{module: "filippo.io/age/cmd/age", args: []string{"-a", "-r", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "/t.txt"}, good: "BEGIN AGE", files: text("/t.txt", "hello\n")},
	{module: "filippo.io/mkcert", args: []string{"-CAROOT"}, good: "^/home/nonroot/", tried: []doctor.NeedKind{doctor.NeedUsers, doctor.NeedHome}},
	{module: "github.com/BurntSushi/toml/cmd/tomlv", args: []string{"/t.toml"}, files: text("/t.toml", "a = 1\n")},
	{module: "github.com/cortesi/modd/cmd/modd", args: []string{"--ignores"}, good: "node_modules"},
	{module: "github.com/evanw/esbuild/cmd/esbuild", args: []string{"/t.js"}, good: "hello", files: text("/t.js", "console.log('hello')\n")},
	{module: "github.com/fullstorydev/grpcurl/cmd/grpcurl", args: []string{"PEER", "list"}, good: "unexpected|Unimplemented|reflection|content-type", tried: []doctor.NeedKind{doctor.NeedCA}},
	{module: "github.com/go-task/task/v3/cmd/task", args: []string{"-t", "/Taskfile.yml", "show"}, good: "JST", tried: []doctor.NeedKind{doctor.NeedZones, doctor.NeedHome, doctor.NeedUsers},
		files: text("/Taskfile.yml", "version: '3'\ntasks:\n  show:\n    silent: true\n    cmds:\n      - echo {{dateInZone \"MST\" now \"Asia/Tokyo\"}}\n")},
	{module: "github.com/google/go-containerregistry/cmd/crane", args: []string{"manifest", "PEER/app:1"}, good: "hello", tried: []doctor.NeedKind{doctor.NeedCA, doctor.NeedHome, doctor.NeedUsers}},
	{module: "github.com/google/gops", args: []string{"1"}, good: "threads|parent"},
	{module: "github.com/junegunn/fzf", args: []string{"--man"}, good: "hello", tool: "man", tried: []doctor.NeedKind{doctor.NeedProgram}},
	{module: "github.com/mikefarah/yq/v4", args: []string{"-n", `now | tz("Asia/Tokyo") | format_datetime("MST")`}, good: `JST|\+0900`, tried: []doctor.NeedKind{doctor.NeedZones}},
	{module: "github.com/nats-io/nats-server/v2", args: []string{"-js", "-a", "127.0.0.1", "-p", "-1"}, good: "Server is ready", serves: true, tried: []doctor.NeedKind{doctor.NeedTemp}},
	{module: "github.com/pelletier/go-toml/v2/cmd/tomljson", args: []string{"/t.toml"}, good: `"a"`, files: text("/t.toml", "a = 1\n")},
	{module: "github.com/prometheus/node_exporter", args: []string{"--web.listen-address=127.0.0.1:0"}, good: "Listening on", serves: true, tried: []doctor.NeedKind{doctor.NeedUsers}},
	{module: "github.com/rakyll/hey", args: []string{"-n", "1", "-c", "1", "https://PEER/"}, good: `\[200\]`, tried: []doctor.NeedKind{doctor.NeedCA}},
	{module: "github.com/rogpeppe/go-internal/cmd/testscript", args: []string{"-v", "/t.txtar"}, good: "PASS", files: text("/t.txtar", "exists f\n-- f --\nhello\n"), tried: []doctor.NeedKind{doctor.NeedTemp}},
	{module: "github.com/tsenart/vegeta/v12", args: []string{"attack", "-targets=/t.txt", "-duration=1s", "-rate=1"}, good: "hello", files: text("/t.txt", "GET https://PEER/\n"), tried: []doctor.NeedKind{doctor.NeedCA}},
	{module: "go.etcd.io/bbolt/cmd/bbolt", args: []string{"bench", "--count=100", "--batch-size=100"}, good: "Write", tried: []doctor.NeedKind{doctor.NeedTemp}},
	{module: "golang.org/x/perf/cmd/benchstat", args: []string{"/t.txt"}, good: "Foo", files: text("/t.txt", "BenchmarkFoo 1 2 ns/op\n")},
	{module: "golang.org/x/tools/cmd/goimports", args: []string{"-format-only", "-d", "/t.go"}, good: "unexpected diff", tool: "diff", files: text("/t.go", "package  p\n"), tried: []doctor.NeedKind{doctor.NeedTemp, doctor.NeedProgram}},
	{module: "github.com/air-verse/air", args: []string{"-v"}, good: "built with Go"},
	{module: "github.com/codesenberg/bombardier", args: []string{"-n", "1", "-c", "1", "-k", "https://PEER/"}, good: "2xx - 1", tried: []doctor.NeedKind{doctor.NeedTemp}},
	{module: "github.com/google/go-jsonnet/cmd/jsonnet", args: []string{"-e", "1+1"}, good: "^2"},
	{module: "github.com/schollz/croc/v10", args: []string{"--version"}, good: "croc version", tried: []doctor.NeedKind{doctor.NeedTemp}},
	{module: "github.com/traefik/yaegi/cmd/yaegi", args: []string{"run", "/t.go"}, good: "hello", files: text("/t.go", "package main\n\nfunc main() { println(\"hello\") }\n")},
	{module: "github.com/vektra/mockery/v3", args: []string{"version"}, good: "v3|v0|devel"},
	{module: "google.golang.org/protobuf/cmd/protoc-gen-go", args: []string{"--version"}, good: `v\d`},
	{module: "gotest.tools/gotestsum", args: []string{"--version"}, good: "gotestsum"},
	{module: "honnef.co/go/tools/cmd/staticcheck", args: []string{"-version"}, good: `20\d\d`},
	{module: "miniflux.app/v2", args: []string{"-version"}, good: "."},
	{module: "sigs.k8s.io/kind", args: []string{"version"}, good: "kind v"},
	{module: "github.com/oauth2-proxy/oauth2-proxy/v7", args: []string{"--version"}, good: "oauth2-proxy"},
	{module: "github.com/benbjohnson/litestream/cmd/litestream", args: []string{"version"}, good: "."},
	{module: "mvdan.cc/gofumpt", args: []string{"/t.go"}, good: "package p", files: text("/t.go", "package  p\n")},
	{module: "mvdan.cc/sh/v3/cmd/shfmt", args: []string{"/t.sh"}, good: "echo hello", files: text("/t.sh", "echo   hello\n")},
}

func text(name, content string) map[string]string { return map[string]string{name: content} }

// TestPrograms takes real programs, which it installs at their latest versions into the directory that SKIFF_PROGRAMS names, where
// they are not there. With -update it writes docs/doctor-programs.md.
func TestPrograms(t *testing.T) {
	dir := os.Getenv("SKIFF_PROGRAMS")
	if dir == "" {
		t.Skip("SKIFF_PROGRAMS names no directory: real programs take long to download and compile")
	}
	tools := read(t)
	tools = slices.DeleteFunc(tools, func(p *probe) bool { return p.name != "hello" })
	build(t, "local", tools)
	b := newBench(t, tools[0].file)
	var rows strings.Builder
	var confirmed, possible, misses, alarms, untried, programs int
	for _, r := range realPrograms {
		p, err := install(t, dir, r)
		if err != nil {
			t.Errorf("%s: %v", r.module, err)
			continue
		}
		full, seen := b.needs(t, p, regexp.MustCompile(r.good))
		if full != "" {
			t.Errorf("%s fails with everything that it may need: %s", r.module, full)
			continue
		}
		programs++
		var predicted, remarks []string
		for _, k := range kinds {
			n := p.binary.Need(k)
			if n.Level > doctor.None {
				predicted = append(predicted, fmt.Sprintf("%s %s", k, n.Level))
			}
			switch wanted := slices.Contains(seen, k); {
			case wanted && n.Level == doctor.None:
				misses++
				remarks = append(remarks, "**missed: "+string(k)+"**")
			case wanted && n.Level == doctor.Possible:
				possible++
				remarks = append(remarks, "not supplied: "+string(k))
			case wanted:
				confirmed++
			case n.Level >= doctor.Likely && slices.Contains(r.tried, k):
				alarms++
				remarks = append(remarks, "false alarm: "+string(k))
			case n.Level >= doctor.Likely:
				untried++
				remarks = append(remarks, "not tried: "+string(k))
			}
		}
		fmt.Fprintf(&rows, "| %s %s | `%s` | %s | %s | %s |\n", path.Base(p.file), p.binary.Info.Main.Version,
			strings.ReplaceAll(strings.Join(r.args, " "), "|", `\|`), strings.Join(predicted, ", "), join(seen), strings.Join(remarks, ", "))
	}
	text := fmt.Sprintf(programsPreface, programs, confirmed, misses, possible, alarms, untried) +
		"\n| program | run as | predicted | seen | |\n| --- | --- | --- | --- | --- |\n" + rows.String()
	t.Log("\n" + text)
	if misses > 0 {
		t.Errorf("%d needs were missed", misses)
	}
	if *update && programs >= 20 {
		if err := os.WriteFile(filepath.Join("..", "..", "..", "docs", "doctor-programs.md"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// install builds a program, unless it is there, and reads it.
func install(t *testing.T, dir string, r realProgram) (*probe, error) {
	name := path.Base(r.module)
	if regexp.MustCompile(`^v[0-9]+$`).MatchString(name) {
		name = path.Base(path.Dir(r.module))
	}
	p := &probe{name: name, file: filepath.Join(dir, name), args: r.args, files: r.files, tool: r.tool}
	if p.tool == "" {
		p.tool = "probetool"
	}
	if r.serves {
		p.timeout = 3 * time.Second
	}
	if _, err := os.Stat(p.file); err != nil {
		cmd := exec.CommandContext(t.Context(), "go", "install", "-trimpath", "-ldflags=-s -w", r.module+"@latest")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+dir, "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go install: %w\n%s", err, out)
		}
	}
	f, err := os.Open(p.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p.binary, err = doctor.ReadBinary(f, st.Size())
	return p, err
}

// needs are the kinds without which a program does not do what it should. failure is its output where it fails with everything.
func (b *bench) needs(t *testing.T, p *probe, good *regexp.Regexp) (failure string, seen []doctor.NeedKind) {
	works := func(needed func(doctor.NeedKind) bool) (string, bool) {
		supply := map[doctor.NeedKind]bool{}
		for _, k := range kinds {
			supply[k] = needed(k)
		}
		out := b.run(t, p, supply)
		return out, good.MatchString(out) && (good.String() != "" || !strings.Contains(out, "exit "))
	}
	if out, ok := works(func(doctor.NeedKind) bool { return true }); !ok {
		return fmt.Sprintf("%q", out), nil
	}
	if _, ok := works(func(doctor.NeedKind) bool { return false }); ok {
		return "", nil
	}
	for _, k := range kinds {
		if _, ok := works(func(other doctor.NeedKind) bool { return other != k }); !ok {
			seen = append(seen, k)
		}
	}
	return "", seen
}

const programsPreface = `# Real programs: what the doctor predicts, and what is seen

Each program is built stripped with CGO_ENABLED=0 from the module proxy, read by the doctor, and run as an ordinary user in an
empty root: with everything, with nothing, and with everything but one thing. It talks to servers on 127.0.0.1 alone. *Seen* is what
it does not do its work without. *Not tried*: predicted, but what this run asks for does not come to that code; *false alarm*: it does, and
the program works without. *Not supplied*: seen, and called possible. Written by

    SKIFF_PROGRAMS=/tmp/programs go test ./internal/doctor/probes -run Programs -update

%d programs: %d needs predicted (likely or linked) and seen, %d missed, %d called possible only; %d false alarms, %d predicted and
not tried.
`
