//go:build linux

package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func links(t *testing.T) (a, b *socketLink) {
	t.Helper()
	x, y, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = newSocketLink(x); err != nil {
		t.Fatal(err)
	}
	if b, err = newSocketLink(y); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestLink(t *testing.T) {
	a, b := links(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	sent := []frame{
		{ID: 1, Kind: kindCall, Method: "m", Body: []byte(`{"a":1}`)},
		{ID: 2, Kind: kindResult, Err: toWire(io.ErrUnexpectedEOF)},
		{ID: 3, Kind: kindEvent, Body: []byte(`"` + strings.Repeat("x", 1<<20) + `"`)},
	}
	go func() {
		for i, f := range sent {
			if err := a.send(f, []*os.File{null, null, null}[:i]); err != nil {
				t.Error(err)
			}
		}
		a.Close()
	}()
	for i, want := range sent {
		got, files, err := b.recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != want.ID || got.Kind != want.Kind || got.Method != want.Method || !bytes.Equal(got.Body, want.Body) || len(files) != i {
			t.Errorf("frame %d came as %d %s with %d files", want.ID, got.ID, got.Kind, len(files))
		}
		if want.Err != nil && !errors.Is(got.Err.error(), io.ErrUnexpectedEOF) {
			t.Errorf("error came as %v", got.Err)
		}
		closeAll(files)
	}
	if _, _, err := b.recv(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestLinkRefusesBadFrames(t *testing.T) {
	prefix := func(n ...uint32) []byte {
		var b []byte
		for _, n := range n {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		return b
	}
	for want, raw := range map[string][]byte{
		"too large":        prefix(0, 2, maxFrame),
		"too large ":       prefix(0, 1<<32-1, 1<<32-1),
		"17 descriptors":   prefix(17, 2, 0),
		"0 of 1":           append(prefix(1, 2, 0), "{}"...),
		"decode message":   append(prefix(0, 2, 0), "{x"...),
		"unexpected EOF":   append(prefix(0, 20, 0), "{}"...),
		"unexpected EOF ":  prefix(0, 20),
		"unexpected EOF  ": prefix(0, 20, 1),
	} {
		a, b := links(t)
		if _, err := a.conn.Write(raw); err != nil {
			t.Fatal(err)
		}
		a.Close()
		if _, _, err := b.recv(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
