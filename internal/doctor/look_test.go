package doctor

import (
	"archive/tar"
	"bytes"
	"testing"
)

// FuzzLook: any bytes under any name give a note.
func FuzzLook(f *testing.F) {
	f.Add("etc/passwd", []byte("root:x:0:0::/root:/bin/sh\n"))
	f.Add("app", []byte("\x7fELF\x02\x01\x01"))
	f.Add("app", []byte("#!"))
	f.Add("root/.netrc", []byte("machine x password y"))
	f.Add(".env", []byte("TOKEN=https://user:secret@host\n"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		n, err := look(&tar.Header{Name: name, Size: int64(len(content))}, bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		if n.secret != "" && foreign("/"+name) {
			t.Errorf("%q: %s", name, n.secret)
		}
		redact(string(content))
		field(string(content), 2, "0")
		Ignored(string(content))
	})
}

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"ENV API_TOKEN=abc PORT=80":                        "ENV API_TOKEN=… PORT=80",
		"ENV API_TOKEN abc def":                            "ENV API_TOKEN …",
		`RUN |2 DB_PASSWORD="a b" X=1 /bin/sh -c go build`: "RUN |2 DB_PASSWORD=… X=1 /bin/sh -c go build",
		"ARG TOKEN": "ARG TOKEN",
		"RUN curl -H ghp_0123456789012345678901234567890abcd":  "RUN curl -H ghp_0123456789012345678901234567890abcd",
		"RUN curl -H ghp_012345678901234567890123456789abcdef": "RUN curl -H …",
	} {
		if got := redact(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
