package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A process that dies while it opens the state leaves nothing that no later one may sweep: what it makes in tmp carries its mark, and the
// file by which others know that it has died is there first.
func TestAliveBeforeTmp(t *testing.T) {
	root := t.TempDir()
	if err := open(t, root).Close(); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(root, "tmp")
	if err := errors.Join(os.RemoveAll(tmp), os.WriteFile(tmp, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s := &Store{root: root, mark: NewID() + "-"}
	if err := s.prepare(); err == nil {
		t.Fatal("a tmp that is a file was taken")
	}
	if s.alive == nil {
		t.Fatal("tmp was written to before the lock was taken")
	}
	s.alive.Close()
}
