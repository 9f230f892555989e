package localdir

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestListing(t *testing.T) {
	dir := write(t, "top", "d/a", "d/b", "d/e/f", "d/e/g", "d/l -> a", "d/gone/x/y", "d/gone/z")
	list := func() Listing {
		t.Helper()
		l, bytes, err := scan(t, Open(nil), Selection{Dir: dir}).Listing(t.Context(), "d")
		if err != nil || bytes == 0 {
			t.Fatalf("%d bytes, %v", bytes, err)
		}
		again, err := DecodeListing(l.Encode())
		if err != nil || !maps.Equal(again, l) {
			t.Fatalf("encoded and decoded: %v, %v; want %v", again, err, l)
		}
		return l
	}
	old := list()
	if changed, gone, ok := list().Diff(old); !ok || len(changed)+len(gone) > 0 {
		t.Errorf("nothing changed: %q %q %v", changed, gone, ok)
	}
	at := func(name string) string { return filepath.Join(dir, "d", name) }
	for _, err := range []error{
		os.WriteFile(at("a"), []byte("other"), 0o644), os.WriteFile(at("e/new"), nil, 0o644), os.RemoveAll(at("gone")),
		os.Chtimes(at("b"), time.Unix(1, 0), time.Unix(1, 0)), os.Chtimes(at("e"), time.Unix(2, 0), time.Unix(2, 0)),
		os.Remove(at("l")), os.Symlink("b", at("l")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	changed, gone, ok := list().Diff(old)
	if want := []string{"a", "b", "e", "e/new", "l"}; !ok || !slices.Equal(changed, want) || !slices.Equal(gone, []string{"gone"}) {
		t.Errorf("changed %q, gone %q, %v; want %q and one", changed, gone, ok, want)
	}
	part, err := Part(t.Context(), dir, []string{"d/e/new", "d/a", "d/none"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, part), []string{"d/", "d/a", "d/e/", "d/e/new"}; !slices.Equal(got, want) {
		t.Errorf("a part holds %q, want %q", got, want)
	}
	if err := os.RemoveAll(at("e")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("e"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := list().Diff(old); ok {
		t.Error("a file in the place of a directory is a difference like others")
	}
}

func FuzzDecodeListing(f *testing.F) {
	f.Add(Listing{"a": {dir: true}, "a/b": {}}.Encode())
	f.Add([]byte("f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := DecodeListing(b)
		if err != nil {
			return
		}
		if again, err := DecodeListing(l.Encode()); err != nil || !maps.Equal(again, l) {
			t.Errorf("%v, then %v, %v", l, again, err)
		}
	})
}
