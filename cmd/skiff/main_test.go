package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skiff-build/skiff"
)

// TestMain makes the test binary the skiff command, too. Init comes first: the command starts itself again as the child that
// enters namespaces, and that is this binary.
func TestMain(m *testing.M) {
	skiff.Init()
	testscript.Main(m, map[string]func(){"skiff": func() { os.Exit(run(os.Args[1:])) }})
}

// TestScripts runs testdata/script. Each script has a state and a home of its own, and in $REGISTRY an empty registry.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
			e.Defer(server.Close)
			for k, v := range map[string]string{
				"HOME":              e.WorkDir,
				"SKIFF_ROOT":        filepath.Join(e.WorkDir, ".state"),
				"XDG_CONFIG_HOME":   filepath.Join(e.WorkDir, ".config"),
				"DOCKER_CONFIG":     filepath.Join(e.WorkDir, ".docker"),
				"DOCKER_HOST":       "unix://" + filepath.Join(e.WorkDir, "no-docker.sock"),
				"REGISTRY":          strings.TrimPrefix(server.URL, "http://"),
				"BUILDKIT_PROGRESS": "plain",
			} {
				e.Setenv(k, v)
			}
			return nil
		},
	})
}
