package gobuild

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// goEnv is what `go env` says of where things are.
type goEnv struct {
	GOENV, GOFLAGS, GOROOT, GOVERSION, GOMOD, GOWORK, GOMODCACHE, GOTOOLDIR, CGO_ENABLED string
}

// environment is that of the go command as far as it is known without asking: the user's, --env, the platform. Of two values of a
// name the later one counts.
func (b *build) environment() error {
	platform, err := b.platform.env()
	if err != nil {
		return err
	}
	for _, kv := range b.o.Env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			return fmt.Errorf("env %q: want NAME=VALUE", kv)
		}
	}
	b.env = slices.Concat(os.Environ(), b.o.Env, platform)
	return nil
}

// settings asks the go command for its own, and fills in skiff's where the user has none.
func (b *build) settings(ctx context.Context) error {
	out, err := b.goCommand(ctx, "env", "-json", "GOENV", "GOFLAGS", "GOROOT", "GOVERSION", "GOMOD", "GOWORK", "GOMODCACHE", "GOTOOLDIR", "CGO_ENABLED")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &b.goenv); err != nil {
		return fmt.Errorf("read go env: %w", err)
	}
	set, err := b.setByUser("CGO_ENABLED")
	if err != nil {
		return err
	}
	if !set {
		b.added = []string{"CGO_ENABLED=0"}
	}
	b.flags, err = b.o.flags(b.goenv.GOFLAGS)
	return err
}

// setByUser tells whether the environment, `go env -w` or the toolchain's go.env set a variable to something.
func (b *build) setByUser(name string) (bool, error) {
	for _, kv := range b.env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok && value != "" {
			return true, nil
		}
	}
	for _, file := range []string{b.goenv.GOENV, filepath.Join(b.goenv.GOROOT, "go.env")} {
		values, err := readGoEnv(file)
		if err != nil {
			return false, err
		}
		if values[name] != "" {
			return true, nil
		}
	}
	return false, nil
}

// readGoEnv reads a file of `go env -w`: NAME=VALUE lines (cmd/go/internal/cfg, readEnvFile).
func readGoEnv(path string) (map[string]string, error) {
	values := map[string]string{}
	if path == "" || path == "off" {
		return values, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return values, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, ok := strings.Cut(strings.TrimSpace(s.Text()), "=")
		if ok && !strings.HasPrefix(name, "#") {
			values[name] = value
		}
	}
	return values, nil
}

// flags are those of go build. Skiff's defaults stand first or are left out, so that whatever GOFLAGS or the options say beats
// them; go's own rule is that the last one counts, and that the command line comes after GOFLAGS.
func (o Options) flags(goflags string) ([]string, error) {
	user, err := splitQuoted(goflags)
	if err != nil {
		return nil, fmt.Errorf("GOFLAGS: %w", err)
	}
	user = append(user, o.Flags...)
	var flags []string
	if !has(user, "trimpath") {
		flags = append(flags, "-trimpath")
	}
	switch {
	case o.VCS:
		flags = append(flags, "-buildvcs=true")
	case !has(user, "buildvcs"):
		flags = append(flags, "-buildvcs=false")
	}
	flags = append(append(flags, o.Flags...), o.ldflags(user)...)
	if o.NoInline {
		flags = append(flags, "-gcflags=all=-l")
	}
	if o.GCFlags != "" {
		flags = append(flags, "-gcflags="+o.GCFlags)
	}
	if o.Tags != "" {
		flags = append(flags, "-tags="+o.Tags)
	}
	return flags, nil
}

// ldflags strip, unless the binary is to be debugged. -s and -w are the linker's flags as any other: -s=false in the user's own
// flags comes later and wins.
func (o Options) ldflags(goflags []string) []string {
	own := "-s -w"
	if o.Debug {
		own = ""
	}
	if o.FuncAlign {
		own = strings.TrimSpace(own + " -funcalign=1")
	}
	given := o.LDFlags
	if given == "" {
		given = last(goflags, "ldflags")
	}
	if forSomePackages(given) {
		// PATTERN=FLAGS replaces what stands before it for the packages that it matches.
		if own == "" {
			return []string{"-ldflags=" + given}
		}
		return []string{"-ldflags=" + own, "-ldflags=" + given}
	}
	if all := strings.TrimSpace(own + " " + given); all != "" {
		return []string{"-ldflags=" + all}
	}
	return nil
}

// forSomePackages tells whether flags are of the form PATTERN=FLAGS (go help build).
func forSomePackages(flags string) bool {
	flags = strings.TrimSpace(flags)
	pattern, _, ok := strings.Cut(flags, "=")
	return ok && !strings.HasPrefix(flags, "-") && !strings.ContainsAny(pattern, " \t")
}

func has(flags []string, name string) bool {
	return slices.ContainsFunc(flags, func(f string) bool { n, _ := flagOf(f); return n == name })
}

// last is the value of the last flag of this name, "" where there is none.
func last(flags []string, name string) string {
	value := ""
	for _, f := range flags {
		if n, v := flagOf(f); n == name {
			value = v
		}
	}
	return value
}

func flagOf(f string) (name, value string) {
	name, value, _ = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(f, "-"), "-"), "=")
	return name, value
}

// splitQuoted splits as the go command splits GOFLAGS: at spaces, but for those between quotes that begin a word
// (cmd/internal/quoted).
func splitQuoted(s string) ([]string, error) {
	var words []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if q := s[0]; q == '\'' || q == '"' {
			end := strings.IndexByte(s[1:], q)
			if end < 0 {
				return nil, fmt.Errorf("unterminated %c", q)
			}
			words, s = append(words, s[1:1+end]), s[end+2:]
			continue
		}
		end := strings.IndexAny(s, " \t\r\n")
		if end < 0 {
			end = len(s)
		}
		words, s = append(words, s[:end]), s[end:]
	}
	return words, nil
}
