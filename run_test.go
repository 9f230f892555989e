package skiff

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestCommand(t *testing.T) {
	image := ocispecs.ImageConfig{Entrypoint: []string{"/e"}, Cmd: []string{"c", "d"}}
	for _, c := range []struct {
		o    RunOptions
		want string
	}{
		{RunOptions{}, "/e c d"},
		{RunOptions{Args: []string{"x"}}, "/e x"},
		{RunOptions{Entrypoint: new("/f")}, "/f"},
		{RunOptions{Entrypoint: new("/f"), Args: []string{"x"}}, "/f x"},
		{RunOptions{Entrypoint: new(""), Args: []string{"x"}}, "x"},
		{RunOptions{Entrypoint: new("")}, ""},
	} {
		if got := strings.Join(command(image, c.o), " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"A=1", "B=2", "A=3"}, RunOptions{Env: []string{"B=4", "C="}})
	if want := []string{defaultPath, "A=3", "B=4", "C="}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	got = mergeEnv([]string{"PATH=/x"}, RunOptions{TTY: true})
	if want := []string{"TERM=xterm", "PATH=/x"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestVolumes(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	got, err := parseVolumes([]string{".:/a", dir + ":/b:ro", "./:/c:rw,Z"})
	want := []runMount{{dir, "/a", false}, {dir, "/b", true}, {dir, "/c", false}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{
		"":            "want HOST:INSIDE",
		"x":           "want HOST:INSIDE",
		".:b":         "INSIDE absolute",
		".:/b:ro:x":   "want HOST:INSIDE",
		"name:/b":     "named volumes are not kept",
		".:/b:shared": `option "shared"`,
		"./nix:/b":    "no such file",
	} {
		if _, err := parseVolumes([]string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
