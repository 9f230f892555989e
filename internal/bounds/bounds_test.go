package bounds

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	deep := func(n int) string { return strings.TrimSuffix(strings.Repeat("d/", n), "/") }
	long := strings.Repeat("n", MaxPart)
	for in, want := range map[string]string{
		"etc/passwd": "etc/passwd", "./etc/passwd": "etc/passwd", "/etc/passwd": "etc/passwd", "etc//passwd": "etc/passwd",
		"etc/./passwd": "etc/passwd", "//etc/passwd": "etc/passwd", ".//./etc/passwd": "etc/passwd", "etc/passwd/": "etc/passwd",
		"etc/x/../passwd": "etc/passwd", "/./etc/passwd": "etc/passwd", ".": ".", "./": ".", "/": ".", "": ".", "a/..": ".",
		"..a": "..a", "a..": "a..", "...": "...", "\xff\n": "\xff\n",
		long: long, deep(MaxDepth): deep(MaxDepth),
	} {
		if got, err := Name(in); err != nil || got != want {
			t.Errorf("Name(%.80q) = %.80q, %v", in, got, err)
		}
	}
	for _, in := range []string{"..", "../a", "/..", "/../a", "./../a", "a/../..", "a/../../b", "a/b/../../../b", "//../x", "././../x", ".././x"} {
		if got, err := Name(in); !errors.Is(err, ErrEscape) {
			t.Errorf("Name(%q) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"a\x00b", long + "n", "a/" + long + "n/b", deep(MaxDepth + 1), deep(20_000), strings.Repeat(long+"/", 17), strings.Repeat("/", 1<<20) + "a",
	} {
		if got, err := Name(in); !errors.Is(err, ErrLimit) {
			t.Errorf("Name(%.80q) = %.80q, %v", in, got, err)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, in := range []string{"./a", "a/../../b", "/", "..", "a//b/", "\x00", strings.Repeat("a/", 3000)} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Name(in)
		if err != nil {
			return
		}
		if path.IsAbs(got) || path.Clean(got) != got || got == ".." || strings.HasPrefix(got, "../") || len(got) > MaxName {
			t.Errorf("Name(%q) = %q", in, got)
		}
		if again, err := Name(got); err != nil || again != got {
			t.Errorf("Name(%q) = %q, %v", got, again, err)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestGrow: a stream that becomes more than its bytes allow ends with an error; an honest one passes.
func TestGrow(t *testing.T) {
	stored := NewMeter(bytes.NewReader(make([]byte, 1000)))
	if _, err := io.Copy(io.Discard, stored); err != nil {
		t.Fatal(err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, Grow(stored, zeros{}), make([]byte, 1<<20))
	if !errors.Is(err, ErrLimit) || n > Unpacked(1000) || n < slack {
		t.Errorf("%d bytes, %v", n, err)
	}
	if got, err := io.ReadAll(Grow(stored, strings.NewReader("honest"))); err != nil || string(got) != "honest" {
		t.Errorf("%q, %v", got, err)
	}
	if Unpacked(-1) < 0 || Unpacked(1<<62) < 0 {
		t.Error("the bound of much is negative")
	}
}
