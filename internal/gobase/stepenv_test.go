package gobase

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skiff-build/skiff/internal/gotoolchain"
)

func TestStepEnv(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, []byte("certificates"), 0o644); err != nil {
		t.Fatal(err)
	}
	machine := gotoolchain.Env{
		GOPROXY: "https://proxy.example|file:///srv/modules,direct", GOSUMDB: "sum.golang.org", GONOSUMDB: "example.com",
		GOMODCACHE: "/root/go/pkg/mod",
	}
	env := map[string]string{"SSL_CERT_FILE": bundle, "HTTPS_PROXY": "http://10.0.0.1:3128", "NETRC": "/root/.netrc", "GOFLAGS": "-v"}
	x := stepEnv([]string{"GOSUMDB=off", "PATH=/bin"}, machine, func(name string) string { return env[name] })
	want := []string{
		"GOPROXY=https://proxy.example|file:///usr/libexec/skiff-goproxy,direct", "GONOSUMDB=example.com",
		"HTTPS_PROXY=http://10.0.0.1:3128", "SSL_CERT_FILE=/usr/libexec/skiff-ca.pem",
	}
	if !slices.Equal(x.Env, want) {
		t.Errorf("env %q, want %q", x.Env, want)
	}
	if len(x.Files) != 2 || x.Files["/usr/libexec/skiff-ca.pem"] != bundle || x.Files["/usr/libexec/skiff-goproxy"] != "/srv/modules" {
		t.Errorf("files %q", x.Files)
	}
}

func TestStepEnvLeavesTheStepsOwn(t *testing.T) {
	x := stepEnv([]string{"GOPROXY=https://own.example", "SSL_CERT_FILE=/own.pem"}, gotoolchain.Env{GOPROXY: "file:///srv"},
		func(string) string { return "" })
	if len(x.Env) != 0 || len(x.Files) != 0 {
		t.Errorf("env %q files %q, want nothing", x.Env, x.Files)
	}
}

// TestStepEnvOfOldGo: go commands up to 1.20 are linked against glibc, which the machine lends.
func TestStepEnvOfOldGo(t *testing.T) {
	none := func(string) string { return "" }
	libc := machineLibc()
	for release, lent := range map[string]bool{"1.13.15": true, "1.20.14": true, "1.21.13": false, "1.26.8": false} {
		x := stepEnv([]string{"GOLANG_VERSION=" + release, "SSL_CERT_FILE=/x"}, gotoolchain.Env{}, none)
		if want := lent && libc != nil; slices.Contains(x.Env, "LD_LIBRARY_PATH="+glibcPath) != want || (len(x.Files) > 0) != want {
			t.Errorf("%s: %q %q", release, x.Env, x.Files)
		}
	}
}
