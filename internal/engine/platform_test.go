package engine

import (
	"os"
	"path/filepath"
	"testing"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

var mipsPlatform = ocispecs.Platform{OS: "linux", Architecture: "mips64"}

func TestInterpreted(t *testing.T) {
	for _, c := range []struct {
		name, entry, arch string
		want              bool
	}{
		{"fixed", "enabled\ninterpreter /q\nflags: OCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n", "arm64", true},
		{"another architecture", "enabled\ninterpreter /q\nflags: F\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n", "riscv64", false},
		{"without the flag", "enabled\ninterpreter /q\nflags: OC\noffset 0\nmagic 7f454c460201010000000000000000000200b700\n", "arm64", false},
		{"disabled", "disabled\ninterpreter /q\nflags: F\noffset 0\nmagic 7f454c460201010000000000000000000200b700\n", "arm64", false},
		{"big endian", "enabled\ninterpreter /q\nflags: F\noffset 0\nmagic 7f454c4602020100000000000000000000020016\nmask ffffffffffffff00fffffffffffffffffffeffff\n", "s390x", true},
		{"no magic", "enabled\nflags: F\nextension .exe\n", "arm64", false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "entry"), []byte(c.entry), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := interpreted(dir, c.arch); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
	if interpreted(t.TempDir(), "arm64") || interpreted("/nothing", "none") {
		t.Error("an empty folder interprets")
	}
}
