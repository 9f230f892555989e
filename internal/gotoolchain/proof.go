package gotoolchain

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"
)

// proof computes the h1 checksum of a module while its files are read: sha256 of the sorted lines
// "SHA256  NAME" (dirhash.Hash1).
type proof struct {
	tc     *Toolchain
	needed bool
	lines  []string
}

func (tc *Toolchain) newProof() *proof { return &proof{tc: tc, needed: !tc.isProved()} }

// file returns a reader of the same content that notes its digest at its end.
func (p *proof) file(name string, r io.Reader) io.Reader {
	if !p.needed {
		return r
	}
	if path.Base(name) == "go.mod" {
		name = path.Join(path.Dir(name), "_go.mod")
	}
	return &digestReader{r: r, hash: sha256.New(), done: func(sum []byte) {
		packed := Module + "@" + ModuleVersion(p.tc.release, p.tc.arch) + "/" + name
		p.lines = append(p.lines, packed+"\n"+hex.EncodeToString(sum))
	}}
}

// digestReader calls done with the digest of what was read, at the end of r.
type digestReader struct {
	r    io.Reader
	hash hash.Hash
	done func([]byte)
}

func (d *digestReader) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	d.hash.Write(b[:n])
	if err == io.EOF && d.done != nil {
		d.done(d.hash.Sum(nil))
		d.done = nil
	}
	return n, err
}

func (p *proof) check() error {
	tc := p.tc
	if !p.needed {
		return nil
	}
	slices.Sort(p.lines)
	h := sha256.New()
	for _, l := range p.lines {
		name, sum, _ := strings.Cut(l, "\n")
		fmt.Fprintf(h, "%s  %s\n", sum, name)
	}
	got := "h1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
	if tc.want != "" && got != tc.want {
		return fmt.Errorf("go %s for linux/%s: checksum mismatch: %s has %s, the checksum database has %s",
			tc.release, tc.arch, tc.zip, got, tc.want)
	}
	tc.mu.Lock()
	defer tc.mu.Unlock()
	if tc.proved != nil {
		tc.proved()
		tc.proved = nil
	}
	return nil
}
