package runimage

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
		o    Options
		want string
	}{
		{Options{}, "/e c d"},
		{Options{Args: []string{"x"}}, "/e x"},
		{Options{Entrypoint: new("/f")}, "/f"},
		{Options{Entrypoint: new("/f"), Args: []string{"x"}}, "/f x"},
		{Options{Entrypoint: new(""), Args: []string{"x"}}, "x"},
		{Options{Entrypoint: new("")}, ""},
	} {
		if got := strings.Join(command(image, c.o), " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"A=1", "B=2", "A=3"}, Options{Env: []string{"B=4", "C="}})
	if want := []string{DefaultPath, "A=3", "B=4", "C="}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	got = mergeEnv([]string{"PATH=/x"}, Options{TTY: true})
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
	want := []runMount{{Source: dir, Target: "/a"}, {Source: dir, Target: "/b", ReadOnly: true}, {Source: dir, Target: "/c"}}
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

func TestMounts(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]runMount{
		"type=bind,source=" + dir + ",target=/a":                  {Source: dir, Target: "/a"},
		"type=bind,src=" + dir + ",dst=/a,readonly":               {Source: dir, Target: "/a", ReadOnly: true},
		"type=bind,src=" + dir + ",destination=/a,ro=false":       {Source: dir, Target: "/a"},
		"type=tmpfs,target=/a":                                    {Target: "/a", Tmpfs: "mode=1777,nodev,noexec,nosuid"},
		"type=tmpfs,target=/a,tmpfs-size=1m,tmpfs-mode=700":       {Target: "/a", Tmpfs: "mode=700,nodev,noexec,nosuid,size=1048576"},
		"\"type=bind\",src=" + dir + ",dst=/a,consistency=cached": {Source: dir, Target: "/a"},
	} {
		if got, err := parseMount(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                                               "EOF",
		"src=x,dst=/a":                                   "volumes are not kept",
		"type=volume,src=x,dst=/a":                       "volumes are not kept",
		"type=npipe,src=x,dst=/a":                        `type "npipe": choose bind or tmpfs`,
		"type=bind,src=/nix,dst=/a":                      "no such file",
		"type=bind,dst=/a":                               "want type=bind",
		"type=bind,src=/,dst=a":                          "absolute path",
		"type=bind,src=/,dst=/a,ro=maybe":                "choose true or false",
		"type=bind,src=/,dst=/a,colour=x":                `option "colour"`,
		"type=bind,src=/,dst=/a,tmpfs-size=1m":           "want type=bind",
		"type=tmpfs,src=/,dst=/a":                        "want type=tmpfs",
		"type=tmpfs,dst=/a,tmpfs-size=much":              "want a size",
		"type=bind,src=/,dst=/a,bind-propagation=shared": "mounts are private",
	} {
		if _, err := parseMount(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"/a":                            "mode=1777,nodev,noexec,nosuid",
		"/a:rw,exec,size=64m,uid=7":     "mode=1777,nodev,nosuid,size=67108864,uid=7",
		"/a:size=10%,mode=0700,noatime": "mode=0700,noatime,nodev,noexec,nosuid,size=10%",
	} {
		if got, err := parseTmpfs(text); err != nil || got.Tmpfs != want || got.Target != "/a" {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"a", "", "/a:size=", "/a:mode=9", "/a:uid=x", "/a:dev", "/a:lowerdir=/etc", "/a:size=1m\tx"} {
		if got, err := parseTmpfs(text); err == nil {
			t.Errorf("%s: %+v", text, got)
		}
	}
	// A mount comes before those in it, and a place has one.
	o := Options{Volumes: []string{dir + ":/a/b"}, Tmpfs: []string{"/a"}}
	if got, err := o.userMounts(); err != nil || len(got) != 2 || got[0].Target != "/a" {
		t.Errorf("%+v, %v", got, err)
	}
	o.Tmpfs = append(o.Tmpfs, "/a/b/")
	if _, err := o.userMounts(); err == nil {
		t.Error("two mounts at one place")
	}
}
