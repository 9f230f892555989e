package skiff

import (
	"strings"
	"testing"
)

func TestAnnotations(t *testing.T) {
	a, err := annotations([]string{
		"a=1", "org.example.url=http://x:80/?a=b", "index:i=2", "manifest,manifest-descriptor:m=3",
		"manifest[linux/amd64]:p=4", "manifest[linux/arm64]:q=5",
	}, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	check := func(level string, got map[string]string, want string) {
		t.Helper()
		var s []string
		for _, k := range []string{"a", "org.example.url", "i", "m", "p", "q"} {
			if v, ok := got[k]; ok {
				s = append(s, k+"="+v)
			}
		}
		if strings.Join(s, " ") != want || len(s) != len(got) {
			t.Errorf("%s: %v, want %s", level, got, want)
		}
	}
	check("manifest", a.Manifest, "a=1 org.example.url=http://x:80/?a=b m=3 p=4")
	check("index", a.Index, "i=2")
	check("manifest-descriptor", a.ManifestDescriptor, "m=3")

	for _, text := range []string{"", "a", "=v", "nix:a=1", "manifest[x/y/z/w]:a=1", "index-descriptor:a=1"} {
		if _, err := annotations([]string{text}, "linux/amd64"); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
