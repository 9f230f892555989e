package gobase

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// readLayer writes a root's layer and returns its entries and files by name; it fails where two writings differ.
func readLayer(t *testing.T, r root) (entries map[string]string, files map[string][]byte, order []string) {
	t.Helper()
	write := func(_ context.Context, w io.Writer) error { return r.writeTar(w) }
	tarNames(t, write)
	var buf bytes.Buffer
	if err := r.writeTar(&buf); err != nil {
		t.Fatal(err)
	}
	entries, files = map[string]string{}, map[string][]byte{}
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return entries, files, order
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uname != "" || h.Uid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: owner %q %d, time %v", h.Name, h.Uname, h.Uid, h.ModTime)
		}
		if _, twice := entries[h.Name]; twice {
			t.Errorf("%s is written twice", h.Name)
		}
		text := fmt.Sprintf("%o", h.Mode)
		if h.Gid != 0 {
			text += fmt.Sprintf(" group %d", h.Gid)
		}
		if h.Linkname != "" {
			text = "-> " + h.Linkname
		}
		entries[h.Name] = text
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
		order = append(order, h.Name)
	}
}

func testZones(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, name := range []string{"Europe/Berlin", "UTC"} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, "TZif "+name)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestRoot holds what later stages copy from a builder and what programs look for in it.
func TestRoot(t *testing.T) {
	common := map[string]string{
		"go/": "1777", "go/bin/": "1777", "go/src/": "1777", "tmp/": "1777", "var/tmp/": "1777", "root/": "700", "proc/": "555", "home/": "755",
		"etc/passwd": "644", "etc/group": "644", "etc/shadow": "640 group 42", "etc/nsswitch.conf": "644", "etc/ssl/certs/ca-certificates.crt": "644",
		"usr/share/zoneinfo/Europe/Berlin": "644", "usr/libexec/skiff": "755", "usr/bin/sh": "-> /usr/libexec/skiff", "usr/bin/env": "-> /usr/libexec/skiff",
		"usr/sbin/adduser": "-> /usr/libexec/skiff",
	}
	own := map[Variant]map[string]string{
		Alpine: {"bin/": "755", "bin/sh": "-> /usr/libexec/skiff", "sbin/adduser": "-> /usr/libexec/skiff", "etc/ssl/cert.pem": "-> certs/ca-certificates.crt",
			"bin/apk": "-> /usr/libexec/skiff", "bin/bash": "", "bin/git": "", "usr/bin/apt-get": ""},
		Debian: {"bin": "-> usr/bin", "sbin": "-> usr/sbin", "usr/bin/bash": "-> /usr/libexec/skiff", "usr/bin/apt-get": "-> /usr/libexec/skiff",
			"etc/gshadow": "640 group 42", "usr/bin/apk": "", "usr/bin/git": ""},
	}
	for _, v := range []Variant{Alpine, Debian} {
		entries, files, order := readLayer(t, root{variant: v, release: "1.26.8", arch: "amd64", zones: testZones(t)})
		if !slices.IsSortedFunc(order, func(a, b string) int {
			return strings.Compare(strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/"))
		}) {
			t.Errorf("%s: the entries are not sorted", v)
		}
		for _, want := range []map[string]string{common, own[v]} {
			for name, w := range want {
				if entries[name] != w {
					t.Errorf("%s: %s is %q, want %q", v, name, entries[name], w)
				}
			}
		}
		if !strings.HasPrefix(string(files["etc/passwd"]), "root:x:0:0:root:/root:/bin/") {
			t.Errorf("%s: passwd %.40q", v, files["etc/passwd"])
		}
		if got := string(files["usr/share/zoneinfo/Europe/Berlin"]); got != "TZif Europe/Berlin" {
			t.Errorf("%s: zone %q", v, got)
		}
	}
}

func TestRootOnRequest(t *testing.T) {
	entries, _, _ := readLayer(t, root{variant: Alpine, release: "1.26.8", arch: "amd64", with: []string{"bash", "git"}})
	if entries["bin/bash"] == "" || entries["usr/bin/git"] == "" {
		t.Error("bash and git were asked for")
	}
	entries, _, _ = readLayer(t, root{variant: Alpine, release: "1.13.15", arch: "amd64"})
	if entries["lib64/ld-linux-x86_64.so.2"] == "" && entries["lib64/ld-linux-x86-64.so.2"] == "" {
		t.Error("an old go command's loader has no place")
	}
	if entries["usr/libexec/skiff-glibc/libc.so.6"] == "" {
		t.Error("an old go command's libc has no place")
	}
}
