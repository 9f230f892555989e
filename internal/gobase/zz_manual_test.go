package gobase

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

func TestManual(t *testing.T) {
	st := folderState{"/tmp/gb/state"}
	os.MkdirAll(st.dir, 0o755)
	ts := NewToolchains(st, nil, func(s string) { fmt.Println("NOTE", s) })
	for _, ref := range []string{"docker.io/library/golang:1.26.8-alpine", "docker.io/library/golang:1.26-alpine", "golang:1.13-alpine", "golang:1.21", "golang:latest", "golang:1.99"} {
		tag, ok, err := ParseReference(ref)
		fmt.Println(tag, ok, err)
		t0 := time.Now()
		v, err := ts.Resolve(t.Context(), tag, "amd64", false)
		fmt.Println("  ", v, err, time.Since(t0))
	}
	for _, v := range []string{"1.26.8", "1.13.15", "1.21.13"} {
		t0 := time.Now()
		tc, err := ts.get(t.Context(), v, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(v, tc.zip, tc.root, tc.sum, time.Since(t0))
		f, _ := os.Create("/tmp/gb/" + v + ".tar")
		t0 = time.Now()
		if err := tc.writeTar(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		n, _ := f.Seek(0, io.SeekCurrent)
		fmt.Println(n, time.Since(t0))
		f.Close()
	}
}
