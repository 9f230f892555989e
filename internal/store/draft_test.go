package store

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func openDraftOf(t *testing.T, s *Store, content string) *Draft {
	t.Helper()
	p, err := s.OpenDraft(t.Context(), hashOf(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func draftPath(s *Store, content string) string {
	return filepath.Join(s.Root(), "tmp", draftPrefix+hashOf(content).Hex)
}

// A draft that was left by whoever came before is continued; one that is not the beginning of the blob is found out.
func TestDraftIsContinued(t *testing.T) {
	whole := strings.Repeat("0123456789abcdef", keepDraft/8) // twice what is kept
	half := len(whole) / 2
	for _, c := range []struct {
		name, left string
		found      int
		err        string
	}{
		{"half", whole[:half], half, ""},
		{"all", whole, len(whole), ""},
		{"too much", whole + "!", 0, ""},
		{"something else", strings.Repeat("x", half), half, "content has the digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			write(t, draftPath(s, whole), c.left)
			p := openDraftOf(t, s, whole)
			defer p.Close()
			if p.Len() != int64(c.found) {
				t.Fatalf("%d bytes are there, want %d", p.Len(), c.found)
			}
			if _, err := io.WriteString(p, whole[c.found:]); err != nil {
				t.Fatal(err)
			}
			h, n, err := p.Commit()
			if c.err != "" {
				var wrong *DigestError
				if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.err) || p.Len() != 0 {
					t.Errorf("%v, %d bytes are kept", err, p.Len())
				}
				p.Close()
				nothingLeft(t, s)
				return
			}
			if err != nil || h != hashOf(whole) || n != int64(len(whole)) {
				t.Fatalf("%s %d %v", h, n, err)
			}
			b := make([]byte, 4)
			if _, err := p.ReadAt(b, 2); err != nil || string(b) != "2345" {
				t.Errorf("read behind Commit: %q %v", b, err)
			}
			p.Close()
			if readBlob(t, s, h) != whole {
				t.Error("the blob is another")
			}
			if entries, _ := os.ReadDir(filepath.Join(s.Root(), "tmp")); len(entries) != 0 {
				t.Errorf("left in tmp: %v", entries)
			}
		})
	}
}

func TestDraftRefusesTooMuch(t *testing.T) {
	s := open(t, t.TempDir())
	p := openDraftOf(t, s, "abc")
	var wrong *DigestError
	if _, err := io.WriteString(p, "abcd"); !errors.As(err, &wrong) {
		t.Errorf("%v", err)
	}
	if _, _, err := p.Commit(); !errors.As(err, &wrong) {
		t.Errorf("an empty one: %v", err)
	}
	p.Close()
	nothingLeft(t, s)
	if _, err := s.OpenDraft(t.Context(), v1.Hash{Algorithm: "sha512", Hex: strings.Repeat("a", 128)}, 3); err == nil {
		t.Error("sha512 is taken")
	}
}

// What is worth it stays for the next one; one at a time has it.
func TestDraftStays(t *testing.T) {
	root := t.TempDir()
	s, other := open(t, root), open(t, root)
	big := strings.Repeat("y", 2*keepDraft)
	p := openDraftOf(t, s, big)
	if _, err := io.WriteString(p, big[:keepDraft-1]); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := other.OpenDraft(ctx, hashOf(big), int64(len(big))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second writer: %v", err)
	}
	p.Close()
	nothingLeft(t, s) // too little

	p = openDraftOf(t, other, big)
	if _, err := io.WriteString(p, big[:keepDraft]); err != nil {
		t.Fatal(err)
	}
	p.Close()
	p = openDraftOf(t, s, big)
	if p.Len() != keepDraft {
		t.Errorf("%d bytes were kept", p.Len())
	}
	p.Close()
}

// Trim leaves a fresh draft alone, not an old one, and none when all has to go.
func TestTrimDrafts(t *testing.T) {
	content := strings.Repeat("z", 2*keepDraft)
	for _, c := range []struct {
		name  string
		age   time.Duration
		keep  int64
		stays bool
	}{
		{"fresh", time.Hour, math.MaxInt64, true},
		{"old", 25 * time.Hour, math.MaxInt64, false},
		{"all", time.Hour, 0, false},
	} {
		s := open(t, t.TempDir())
		write(t, draftPath(s, content), content[:keepDraft])
		at := time.Now().Add(-c.age)
		if err := os.Chtimes(draftPath(s, content), at, at); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Trim(t.Context(), c.keep, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(draftPath(s, content)); (err == nil) != c.stays {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestNewDraft(t *testing.T) {
	s := open(t, t.TempDir())
	p, err := s.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(p, strings.Repeat("q", 2*keepDraft))
	p.Close()
	nothingLeft(t, s)
	if p, err = s.NewDraft(); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	io.WriteString(p, "abc")
	if h, n, err := p.Commit(); err != nil || h != hashOf("abc") || n != 3 {
		t.Errorf("%s %d %v", h, n, err)
	}
}
