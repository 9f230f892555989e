package doctor

import (
	"archive/tar"
	"bytes"
	"math/rand/v2"
	"strings"
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

// TestMarks: what an expression matches has a mark of it.
func TestMarks(t *testing.T) {
	key := strings.Repeat("Ab0/", 10)
	word := strings.Repeat("Ab01", 20)
	for text, want := range map[string]string{
		"-----BEGIN PRIVATE KEY-----\n" + key:                        "a private key",
		"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4\n" + key:      "a private key",
		"-----BEGIN PGP PRIVATE KEY BLOCK-----":                      "a private key of PGP",
		"AWS_SECRET_ACCESS_KEY=" + word[:40]:                         "a key of AWS",
		"aws_secret_access_key: " + word[:40]:                        "a key of AWS",
		"x gho_" + word[:36]:                                         "a token of GitHub",
		"ghs_" + word[:36] + "\n":                                    "a token of GitHub",
		"ghr_" + word[:36]:                                           "a token of GitHub",
		"ghu_" + word[:36]:                                           "a token of GitHub",
		"github_pat_" + word[:22] + "_" + word[:59]:                  "a token of GitHub",
		"glpat-" + word[:20]:                                         "a token of GitLab",
		"xoxb-1234567890-" + word[:24]:                               "a token of Slack",
		"xoxs-1234567890-" + word[:24]:                               "a token of Slack",
		"xapp-1-A01-12-" + strings.Repeat("0123456789abcdef", 2):     "an app token of Slack",
		"rk_live_" + word[:24]:                                       "a key of Stripe",
		"_sk_live_ sk_live_" + word[:24]:                             "a key of Stripe",
		"npm_" + word[:36]:                                           "a token of npm",
		"ghp_" + word[:35]:                                           "",
		"aws_secret_access_key = " + strings.Repeat("EXAMPLEKEY", 4): "",
		"-_-_ghp_--glpat-_gh PRIVATE KEY":                            "",
	} {
		if got := signature([]byte(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// BenchmarkLook examines a text of 10 kB such as most of a large build context are.
func BenchmarkLook(b *testing.B) {
	text := make([]byte, 10_000)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(text)
	for i := range text {
		text[i] = "abcdefghijklmnop"[text[i]%16]
	}
	h := &tar.Header{Name: "src/d001/e1/file001.txt", Size: int64(len(text))}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := look(h, bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
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
