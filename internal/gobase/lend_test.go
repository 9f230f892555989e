package gobase

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/gotoolchain/gotoolchaintest"
)

// TestLendCache: the machine's build cache is lent where its go command is the released one, once for each step.
func TestLendCache(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("steps run on linux")
	}
	p := gotoolchaintest.NewProxy(t)
	root, cache := t.TempDir(), t.TempDir()
	tool := "pkg/tool/linux_" + runtime.GOARCH + "/compile"
	files := map[string]string{"VERSION": "go1.26.8\n", "bin/go": "go", tool: "compile"}
	for name, content := range files {
		writeFile(t, filepath.Join(root, name), content)
	}
	writeFile(t, filepath.Join(cache, "00", "x"), "")
	p.Sums[gotoolchain.ModuleVersion("1.26.8", runtime.GOARCH)] = gotoolchaintest.HashFiles(t, "1.26.8", runtime.GOARCH, files)
	p.Sums[gotoolchain.ModuleVersion("1.26.9", runtime.GOARCH)] = "h1:another"
	env := gotoolchain.Env{GOPROXY: p.URL, GOSUMDB: p.Key, GOROOT: root, GOVERSION: "go1.26.8", GOCACHE: cache}
	loan := CacheLoan{Release: "1.26.8", Cache: "/root/.cache/go-build", Step: []string{"go build", "A=b"}, State: "s"}
	state := gotoolchaintest.NewState(t)

	x, ok := NewLoans(gotoolchain.New(state, &env, nil)).LendCache(t.Context(), loan)
	if !ok || x.Files[machineCachePath] != cache ||
		strings.Join(x.Env, " ") != "GOCACHEPROG=/usr/libexec/skiff gocache /usr/libexec/skiff-machine-gocache" {
		t.Fatalf("%v %+v", ok, x)
	}
	if _, ok := NewLoans(gotoolchain.New(state, &env, nil)).LendCache(t.Context(), loan); !ok {
		t.Error("a step that failed gets it no second time")
	}
	x.Done()
	if _, ok := NewLoans(gotoolchain.New(state, &env, nil)).LendCache(t.Context(), loan); ok {
		t.Error("a step that has all gets it again")
	}

	for name, change := range map[string]func(*gotoolchain.Env, *CacheLoan){
		"another release":     func(_ *gotoolchain.Env, l *CacheLoan) { l.Release = "1.26.9" },
		"not in the database": func(_ *gotoolchain.Env, l *CacheLoan) { l.Release = "1.26.10" },
		"no proof":            func(e *gotoolchain.Env, _ *CacheLoan) { e.GOSUMDB = "off" },
		"no cache":            func(e *gotoolchain.Env, _ *CacheLoan) { e.GOCACHE = t.TempDir() },
		"cache off":           func(e *gotoolchain.Env, _ *CacheLoan) { e.GOCACHE = "off" },
	} {
		e, l := env, loan
		change(&e, &l)
		if _, ok := NewLoans(gotoolchain.New(gotoolchaintest.NewState(t), &e, nil)).LendCache(t.Context(), l); ok {
			t.Errorf("%s: lent", name)
		}
	}
	other := loan
	other.State = "after a prune"
	if _, ok := NewLoans(gotoolchain.New(state, &env, nil)).LendCache(t.Context(), other); !ok {
		t.Error("not lent although the caches were lost")
	}
	writeFile(t, filepath.Join(root, tool), "patched")
	if _, ok := NewLoans(gotoolchain.New(state, &env, nil)).LendCache(t.Context(), other); ok {
		t.Error("lent although the compiler was patched")
	}
}

// TestOtherGo: that the machine's cache is of no use, since floating tags give a newer patch, is said once.
func TestOtherGo(t *testing.T) {
	cache := t.TempDir()
	if err := os.MkdirAll(filepath.Join(cache, "00"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := gotoolchaintest.NewProxy(t, "1.26.8")
	var notes []string
	state := gotoolchaintest.NewState(t)
	for range 2 {
		loans := NewLoans(gotoolchain.New(state, &gotoolchain.Env{GOPROXY: p.URL, GOSUMDB: p.Key, GOCACHE: cache, GOVERSION: "go1.26.7"}, func(s string) { notes = append(notes, s) }))
		if _, ok := loans.LendCache(t.Context(), CacheLoan{Release: "1.26.8", Cache: "/c"}); ok {
			t.Fatal("lent")
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "FROM golang:1.26.7") || !strings.Contains(notes[0], "GOTOOLCHAIN=go1.26.8+auto") {
		t.Errorf("notes %q", notes)
	}
}

// TestLendModules: single versions that the machine has are served, and nothing else.
func TestLendModules(t *testing.T) {
	modcache := t.TempDir()
	for _, name := range []string{
		"example.com/!a/@v/v1.0.0.zip", "example.com/!a/@v/v1.0.0.info", "example.com/!a/@v/v1.0.0.mod", "example.com/!a/@v/v1.0.0.ziphash",
		"example.com/!a/@v/v1.0.0.lock", "example.com/!a/@v/list", "private.example/x/@v/v1.0.0.zip", "golang.org/toolchain/@v/v0.0.1-go1.26.8.linux-amd64.zip",
		"sumdb/sum.golang.org/lookup/x@v1.0.0",
	} {
		writeFile(t, filepath.Join(modcache, "cache/download", name), "content of "+name)
	}
	writeFile(t, filepath.Join(modcache, "secret"), "secret")
	loans := NewLoans(gotoolchain.New(gotoolchaintest.NewState(t), &gotoolchain.Env{GOMODCACHE: modcache, GOPRIVATE: "private.example"}, nil))
	x := StepExtras{Env: []string{"GOPROXY=https://proxy.example,direct"}}
	count := 0
	if err := loans.LendModules(&x, func() { count++ }); err != nil {
		t.Fatal(err)
	}
	proxy, rest, _ := strings.Cut(strings.TrimPrefix(x.Env[0], "GOPROXY="), "|")
	if rest != "https://proxy.example,direct" {
		t.Errorf("%q", x.Env)
	}
	get := func(address string) (int, string) {
		resp, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, name := range []string{
		"example.com/!a/@v/list", "example.com/!a/@latest", "example.com/!a/@v/v1.0.0.ziphash", "example.com/!a/@v/v1.0.0.lock", "example.com/!a/@v/v1.zip",
		"example.com/!a/@v/v1.0.1.zip", "example.com/A/@v/v1.0.0.zip", "private.example/x/@v/v1.0.0.zip", "sumdb/sum.golang.org/supported",
		"golang.org/toolchain/@v/v0.0.1-go1.26.8.linux-amd64.zip", "sumdb/sum.golang.org/lookup/x@v1.0.0", "..%2f..%2fsecret", "x/@v/..%2f..%2f..%2f..%2fsecret", "",
	} {
		if code, body := get(proxy + "/" + name); code != http.StatusNotFound {
			t.Errorf("%s: %d %q", name, code, body)
		}
	}
	if count != 0 {
		t.Error("told that something was served")
	}
	for range 2 {
		for _, name := range []string{"example.com/!a/@v/v1.0.0.zip", "example.com/!a/@v/v1.0.0.info", "example.com/!a/@v/v1.0.0.mod"} {
			if code, body := get(proxy + "/" + name); code != http.StatusOK || body != "content of "+name {
				t.Errorf("%s: %d %q", name, code, body)
			}
		}
	}
	if count != 1 {
		t.Errorf("told %d times", count)
	}
	guess := proxy[:strings.LastIndex(proxy, "/")] + "/00000000000000000000000000000000/example.com/!a/@v/v1.0.0.zip"
	if code, _ := get(guess); code != http.StatusNotFound {
		t.Error("served to somebody who does not know the address")
	}
	own := StepExtras{Env: []string{"GOSUMDB=x"}}
	if err := loans.LendModules(&own, nil); err != nil || len(own.Env) != 1 || own.Env[0] != "GOSUMDB=x" {
		t.Errorf("a step with proxies of its own: %v, %v", own.Env, err)
	}
	if err := loans.Close(); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Get(proxy); err == nil {
		resp.Body.Close()
		t.Error("served after Close")
	}
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
