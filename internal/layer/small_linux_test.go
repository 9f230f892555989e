package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"testing"
)

// TestSmallFiles holds that files which are made beside the reading of a tar give what one after the other gives, in tars whose entries
// replace, hide and lead to each other.
func TestSmallFiles(t *testing.T) {
	good := 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		data := randomTar(t, r)
		var want string
		for _, small := range []int64{-1, smallFile} {
			dir := t.TempDir()
			_, err := unpack(t.Context(), bytes.NewReader(data), dir, UnpackOptions{}, small)
			got := fmt.Sprint("error ", err != nil)
			if err == nil {
				p, err := Pack(t.Context(), io.Discard, dir, PackOptions{})
				must(t, err)
				got = p.DiffID
				good++
			}
			if small < 0 {
				want = got
			} else if got != want {
				t.Errorf("seed %d: got %s, want %s (%v)", seed, got, want, err)
			}
		}
	}
	if good < 100 {
		t.Errorf("%d of 400 tars could be unpacked", good)
	}
}

func randomTar(t *testing.T, r *rand.Rand) []byte {
	pick := func(names ...string) string { return names[r.IntN(len(names))] }
	name := func() string {
		n := pick("a", "b", "c", "d")
		for r.IntN(2) == 0 {
			n = path.Join(n, pick("a", "b", "c", "d"))
		}
		return n
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 2 + r.IntN(12) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name(), Mode: int64(0o600 + r.IntN(64)), Uid: r.IntN(2)}
		content := ""
		switch r.IntN(12) {
		case 0, 1:
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
			h.Mode |= 0o100 // a user without a namespace, as in tests, looks into it
		case 2:
			h.Typeflag, h.Linkname = tar.TypeSymlink, pick("a", "b", "/c", "../d", "a/b")
		case 3:
			h.Typeflag, h.Linkname = tar.TypeLink, name()
		case 4:
			h.Name = path.Join(path.Dir(h.Name), ".wh."+path.Base(h.Name))
		case 5:
			h.Name = path.Join(h.Name, ".wh..wh..opq")
		default:
			content = fmt.Sprint("content ", i)
		}
		if h.Typeflag == tar.TypeReg && r.IntN(3) > 0 {
			h.Size = int64(len(content))
		}
		must(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := io.WriteString(w, content)
			must(t, err)
		}
	}
	must(t, w.Close())
	return b.Bytes()
}
