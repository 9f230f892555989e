package localdir

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestListing(t *testing.T) {
	dir := write(t, "top", "d/a", "d/b", "d/e/f", "d/e/g", "d/l -> a", "d/gone/x/y", "d/gone/z")
	list := func() Listing {
		t.Helper()
		l, size, err := scan(t, Open(nil), Selection{Dir: dir}).Listing(t.Context(), "d")
		if err != nil || size == 0 {
			t.Fatalf("%d bytes, %v", size, err)
		}
		again, err := DecodeListing(l.Encode())
		if err != nil || again.Len() != l.Len() || !bytes.Equal(again.Encode(), l.Encode()) {
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

// TestListingDiff compares listings of random trees with what maps say of them.
func TestListingDiff(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		make := func() (Listing, map[string]byte) {
			files := map[string]byte{}
			for range r.IntN(30) {
				name := ""
				for range 1 + r.IntN(4) {
					name = path.Join(name, []string{"a", "a-", "a.b", "b", "\xff", "0"}[r.IntN(6)])
					files[name] = byte(r.IntN(2))
				}
			}
			names := slices.SortedFunc(maps.Keys(files), func(a, b string) int {
				return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
			})
			var l Listing
			for _, name := range names {
				l.add(name, true, digest{files[name]})
			}
			return l, files
		}
		l, now := make()
		old, was := make()
		var wantChanged, wantGone []string
		for name, v := range now {
			if w, had := was[name]; !had || v != w {
				wantChanged = append(wantChanged, name)
			}
		}
		for name := range was {
			_, still := now[name]
			_, parent := now[path.Dir(name)]
			if !still && (parent || path.Dir(name) == ".") {
				wantGone = append(wantGone, name)
			}
		}
		slices.Sort(wantChanged)
		slices.Sort(wantGone)
		changed, gone, ok := l.Diff(old)
		if !ok || !slices.Equal(changed, wantChanged) || !slices.Equal(gone, wantGone) {
			t.Errorf("seed %d: %q, %q, want %q, %q", seed, changed, gone, wantChanged, wantGone)
		}
	}
}

func FuzzDecodeListing(f *testing.F) {
	var good Listing
	good.add("a", true, digest{})
	good.add("a/b", false, digest{1})
	f.Add(good.Encode())
	f.Add([]byte("f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := DecodeListing(b)
		if err != nil {
			return
		}
		if changed, gone, ok := l.Diff(l); !ok || len(changed)+len(gone) > 0 {
			t.Errorf("it differs from itself: %q, %q, %v", changed, gone, ok)
		}
		if changed, _, ok := l.Diff(Listing{}); !ok || len(changed) != l.Len() {
			t.Errorf("%d files differ from nothing, there are %d", len(changed), l.Len())
		}
	})
}
