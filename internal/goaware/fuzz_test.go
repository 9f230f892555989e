package goaware

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

func FuzzReadScript(f *testing.F) {
	f.Add("go build -a -o x . && rm -rf $HOME/.cache")
	f.Add("for d in /go/*; do (cd $d; go build -a); done <<EOF\n$(x)\nEOF")
	f.Fuzz(func(t *testing.T, text string) {
		s := &step{op: &pb.ExecOp{Meta: &pb.Meta{Args: []string{"/bin/sh", "-c", text}, Cwd: "/src"}}, env: map[string]string{"HOME": "/root"}}
		s.script = readScript(s.op.Meta.Args, s.env)
		s.kind = s.script.kind()
		s.notConfined(testBase)
		s.mayUseCgo()
		s.names("/go/pkg/mod")
		s.dropForce()
	})
}

const testBase = "gobase://1.26.8/alpine/amd64"

// FuzzConfinedScript runs what may be confined in a shell that starts nothing, and looks at what it would have started: the go
// command, by arguments and with variables that are harmless, and commands of the base that are.
func FuzzConfinedScript(f *testing.F) {
	for _, text := range []string{
		"go build -o app .", "set -eux\ngo mod download && cd cmd && go build", "export CGO_ENABLED=0 && go build", "X=-o && go build $X y",
		"GOFLAGS=-toolexec=x go build", "export GOFLAGS=-toolexec=x; go build", "readonly GOFLAGS=-a && export GOFLAGS && go vet",
		": ${GOFLAGS:=-toolexec=x} && export GOFLAGS && go build", "export $(echo GOFLAGS)=x && go build", "echo $(evil) && go build",
		"A=GO B=FLAGS && export $A$B=-toolexec=x && go build", "A='b c' && go build -tags $A", "export PATH=/src:$PATH && go build",
		"go() { evil; } && go build", "{ go build; }", "go build & evil", "go build #; evil", "go bu\\\nild", "echo a >b && go build", "cd ~ && go build",
		"go build -ldflags \"-X main.v=$(date) -s\" .", "V=$(git describe || echo dev) && go build -ldflags=\"-X main.v=$V\"", "go build -gcflags=\"$X\"",
		"go build -ldflags $(evil)", "go build -ldflags \"$(date)\" $(echo -toolexec=x)", "if [ -d x ]; then go vet; else go build > /log; fi",
		"for p in a b; do go build $p; done", "go list | sort > $GOCACHE/x", "cat x > /dev/skiff-go-*/x", "cp x /dev/*/y && go build",
		"A=-v go build $A", "go build $A && A=-v", "cd no && B=-o\ngo build $B -toolexec=x", "echo -toolexec=x && go build $_", "go build *", "go build -o $PWD/x", "$0",
	} {
		f.Add(text, false)
		f.Add(text, true)
	}
	env := []string{"HOME=/root", "PATH=/go/bin:/usr/local/go/bin:/usr/bin:/bin", "CGO_ENABLED=0", "A=-toolexec=x"}
	f.Fuzz(func(t *testing.T, text string, bash bool) {
		args, lang := []string{"/bin/sh", "-c", text}, syntax.LangPOSIX
		if bash {
			args[0], lang = "/bin/bash", syntax.LangBash
		}
		s := &step{op: &pb.ExecOp{Meta: &pb.Meta{Args: args, Cwd: "/src"}}, env: environment(env)}
		s.script = readScript(args, s.env)
		if s.notConfined(testBase) != "" {
			return
		}
		file, err := syntax.NewParser(syntax.Variant(lang)).Parse(strings.NewReader(text), "")
		if err != nil {
			t.Fatalf("%q: trusted, but no shell text: %v", text, err)
		}
		calls := func(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
			return func(ctx context.Context, words []string) error {
				if slices.Contains(telling, words[0]) || slices.Contains(making, words[0]) || cleanInstall(words[0], words[1:]) {
					return nil
				}
				// What the linker is told may be anything.
				for i, w := range words {
					if flagName(w) == "ldflags" && strings.Contains(w, "=") {
						words[i] = "-ldflags="
					} else if i > 0 && words[i-1] == "-ldflags" {
						words[i] = ""
					}
				}
				if !trustedGo(words) {
					t.Errorf("%q: trusted, but runs %q", text, words)
				}
				interp.HandlerCtx(ctx).Env.Each(func(name string, v expand.Variable) bool {
					if v.Exported && !harmlessVariable(name, v.String()) {
						t.Errorf("%q: trusted, but runs %q with %s=%q", text, words, name, v)
					}
					return true
				})
				return nil
			}
		}
		shell, err := interp.New(interp.Env(expand.ListEnviron(env...)), interp.StdIO(nil, io.Discard, io.Discard), interp.ExecHandlers(calls),
			interp.OpenHandler(func(_ context.Context, path string, flag int, _ os.FileMode) (io.ReadWriteCloser, error) {
				if flag != os.O_RDONLY && path != "/dev/null" && (strings.HasPrefix(path, "/dev") || strings.HasPrefix(path, "/proc")) {
					t.Errorf("%q: trusted, but writes %s", text, path)
				}
				if flag != os.O_RDONLY {
					return os.OpenFile(os.DevNull, os.O_RDWR, 0)
				}
				return nil, fs.ErrNotExist
			}))
		if err != nil {
			t.Fatal(err)
		}
		var status interp.ExitStatus
		if err := shell.Run(t.Context(), file); err != nil && !errors.As(err, &status) {
			t.Logf("%q: %v", text, err) // what the shell itself does not know
		}
	})
}
