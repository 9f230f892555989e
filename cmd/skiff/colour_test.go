package main

import (
	"bytes"
	"io"
	"testing"
)

func TestPainter(t *testing.T) {
	var out bytes.Buffer
	if _, err := io.WriteString(&painter{&out}, "app:1\n\nerror    users: an error\n  warning: home: x\ninfo     y\n1 error\n  seen   error\n"); err != nil {
		t.Fatal(err)
	}
	want := "app:1\n\n\x1b[1;31merror\x1b[0m    users: an error\n  \x1b[33mwarning\x1b[0m: home: x\n\x1b[2minfo\x1b[0m     y\n1 error\n  seen   error\n"
	if out.String() != want {
		t.Errorf("%q\nwant %q", out.String(), want)
	}
	if coloured(&out) != io.Writer(&out) {
		t.Error("what is no terminal gets colours")
	}
	for _, c := range []struct {
		noColor, term string
		want          bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		env := map[string]string{"NO_COLOR": c.noColor, "TERM": c.term}
		if got := wantsColours(func(name string) string { return env[name] }); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}
