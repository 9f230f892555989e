package gobase

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// TestCensus counts for how many of the builder stages of a census the built-in base is decided: four of five at least. The table in
// docs/go-base.md has the figures.
func TestCensus(t *testing.T) {
	data, err := os.ReadFile("testdata/census.txt")
	if err != nil {
		t.Fatal(err)
	}
	decided, old, all := 0, 0, 0
	for _, part := range strings.Split(string(data), "\n== ")[1:] {
		head, text, _ := strings.Cut(part, "\n")
		number, kind, _ := strings.Cut(head, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		all += n
		if strings.Contains(kind, ", old:") {
			old += n
			t.Logf("%3d no current Go   %s", n, kind)
			continue
		}
		if strings.Contains(kind, ", cgo:") {
			t.Logf("%3d image, later    %s", n, kind)
			continue
		}
		stage, files, _ := strings.Cut(text, "\n-- ")
		from, steps, _ := strings.Cut(stage, "\n")
		context := fstest.MapFS{
			"Dockerfile": {Data: []byte(from + " AS builder\nARG X TARGETVARIANT\nWORKDIR /src\nCOPY . .\n" + steps +
				"\nFROM scratch\nCOPY --from=builder /app /app\n")},
			"go.mod": {Data: []byte("module example.com/x\n\ngo 1.20\n")}, "main.go": {Data: []byte("package main\n")},
		}
		if name, body, ok := strings.Cut(files, " --\n"); ok {
			context[name] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(body, ": ; ", ":\n\t")), Mode: 0o755}
		}
		ref := strings.TrimPrefix(from, "FROM ")
		b := buildDockerfile(t, context, Options{Git: func() bool { return true }}, map[string]string{ref: golangConfig})
		if b.err != nil {
			t.Fatalf("%s: %v", kind, b.err)
		}
		if len(b.bases) == 1 && len(b.images) == 0 {
			decided += n
			t.Logf("%3d built-in base   %s", n, kind)
		} else {
			t.Logf("%3d image           %s: %s", n, kind, strings.Join(b.notes, "; "))
		}
	}
	t.Logf("%d of %d stages are decided for the built-in base, %d need a Go that is no longer released", decided, all, old)
	if all != 125 || decided*5 < all*4 {
		t.Errorf("%d of %d are decided", decided, all)
	}
}
