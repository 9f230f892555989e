package gobuild

import (
	"slices"
	"strings"
	"testing"
)

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		name, goflags string
		o             Options
		want          string // joined by |
	}{
		{"defaults", "", Options{}, "-trimpath|-buildvcs=false|-ldflags=-s -w"},
		{"debug", "", Options{Debug: true}, "-trimpath|-buildvcs=false"},
		{"debug with flags", "", Options{Debug: true, LDFlags: "-X a.b=c"}, "-trimpath|-buildvcs=false|-ldflags=-X a.b=c"},
		{"given flags come after ours", "", Options{LDFlags: "-s=false"}, "-trimpath|-buildvcs=false|-ldflags=-s -w -s=false"},
		{"so do those of GOFLAGS", "'-ldflags=-X a.b=c' -v", Options{}, "-trimpath|-buildvcs=false|-ldflags=-s -w -X a.b=c"},
		{"the command line beats GOFLAGS", "-ldflags=-X=a.b=c", Options{LDFlags: "-w=0"}, "-trimpath|-buildvcs=false|-ldflags=-s -w -w=0"},
		{"flags for some packages", "", Options{LDFlags: "example.com/...=-X=a.b=c"}, "-trimpath|-buildvcs=false|-ldflags=-s -w|-ldflags=example.com/...=-X=a.b=c"},
		{"trimpath of the user", "-trimpath=false", Options{}, "-buildvcs=false|-ldflags=-s -w"},
		{"two dashes", "--trimpath=false --buildvcs=auto", Options{}, "-ldflags=-s -w"},
		{"small", "", Options{FuncAlign: true, NoInline: true, GCFlags: "-B"}, "-trimpath|-buildvcs=false|-ldflags=-s -w -funcalign=1|-gcflags=all=-l|-gcflags=-B"},
		{"stamped", "", Options{VCS: true}, "-trimpath|-buildvcs=true|-ldflags=-s -w"},
		{"tags and compiler flags", "", Options{Tags: "a,b", GCFlags: "all=-l"}, "-trimpath|-buildvcs=false|-ldflags=-s -w|-gcflags=all=-l|-tags=a,b"},
	} {
		got, err := c.o.flags(c.goflags)
		if err != nil || !slices.Equal(got, strings.Split(c.want, "|")) {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	if _, err := (Options{}).flags("'-ldflags=-s"); err == nil {
		t.Error("a quote that does not end is no error")
	}
}

func TestProgramName(t *testing.T) {
	for path, want := range map[string]string{
		"example.com/a/cmd/app": "app", "example.com/app/v2": "app", "example.com/app/v1": "v1", "app": "app", "v2": "v2",
		"example.com/app/v10": "app", "example.com/app/v2x": "v2x",
	} {
		if got := programName(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestPlatformEnv(t *testing.T) {
	for _, c := range []struct {
		p    Platform
		want string // joined by spaces, "" for an error
	}{
		{Platform{"linux", "amd64", ""}, "GOOS=linux GOARCH=amd64"},
		{Platform{"linux", "amd64", "v3"}, "GOOS=linux GOARCH=amd64 GOAMD64=v3"},
		{Platform{"linux", "arm", "v6"}, "GOOS=linux GOARCH=arm GOARM=6"},
		{Platform{"linux", "arm64", "v8"}, "GOOS=linux GOARCH=arm64"},
		{Platform{"linux", "riscv64", "v9"}, ""},
		{Platform{"linux", "amd64", "v31"}, ""},
		{Platform{"windows", "amd64", ""}, ""},
	} {
		env, err := c.p.env()
		if got := strings.Join(env, " "); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", c.p, got, err, c.want)
		}
	}
}
