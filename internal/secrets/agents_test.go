package secrets

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/skiff-build/skiff/internal/engine"
)

func TestAgentSocket(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := NewAgents([]SSHAgent{{ID: "default", Paths: []string{socket}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Socket(""); err != nil || got != socket {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := a.Socket("x"); !errors.Is(err, engine.ErrNoSecret) {
		t.Errorf("x: %v", err)
	}
}

func TestAgentRefuses(t *testing.T) {
	dir := t.TempDir()
	text, locked := filepath.Join(dir, "text"), writeKey(t, dir, "secret")
	if err := os.WriteFile(text, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"): "no such file", text: "nor a private key", locked: "ssh-add", dir: "is a directory",
	} {
		if _, err := NewAgents([]SSHAgent{{ID: "x", Paths: []string{path}}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	key := SSHAgent{ID: "x", Paths: []string{writeKey(t, t.TempDir(), "")}}
	if _, err := NewAgents([]SSHAgent{key, key}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("one id twice: %v", err)
	}
}

// A step signs with the keys of files; it can neither add to them nor take them away.
func TestAgentOfKeys(t *testing.T) {
	dir := t.TempDir()
	a, err := NewAgents([]SSHAgent{{ID: "x", Paths: []string{writeKey(t, dir, ""), writeKey(t, t.TempDir(), "")}}})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := a.Socket("x")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := agent.NewClient(conn)
	keys, err := c.List()
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	sig, err := c.Sign(keys[1], []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys[1].Verify([]byte("data"), sig); err != nil {
		t.Error(err)
	}
	if err := c.RemoveAll(); err == nil {
		t.Error("a step took the keys away")
	}
	if again, err := a.Socket("x"); err != nil || again != socket {
		t.Errorf("%q, %v", again, err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(socket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
}

// writeKey makes a private key, with a passphrase unless that is empty.
func writeKey(t *testing.T, dir, passphrase string) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
