package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/store"
)

func fetcher(t *testing.T) *Fetcher {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return &Fetcher{Store: st}
}

// show lists a tar archive: mode, owner, name, time where it is not 0, and content or target.
func show(t *testing.T, res Result) string {
	t.Helper()
	r, err := res.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b strings.Builder
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%o %d:%d %s %s\n", h.Mode, h.Uid, h.Gid, h.Name, strings.TrimSpace(string(content)+h.Linkname))
	}
}

// serve answers with body to everything, and counts.
func serve(t *testing.T, h http.HandlerFunc) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, requests
}

func TestHTTPFile(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/disposition" {
			w.Header().Set("Content-Disposition", `attachment; filename="../given.txt"`)
		}
		w.Header().Set("Last-Modified", "Tue, 01 Feb 2022 10:00:00 GMT")
		io.WriteString(w, "hello")
	})
	for _, c := range []struct {
		path  string
		attrs map[string]string
		want  string
	}{
		{"/a/f.txt", nil, "600 0:0 f.txt hello\n"},
		{"/a/f%20g?x=y", nil, "600 0:0 f g hello\n"},
		{"/", nil, "600 0:0 download hello\n"},
		{"/disposition", nil, "600 0:0 given.txt hello\n"},
		{"/disposition", map[string]string{pb.AttrHTTPFilename: "/x/mine"}, "600 0:0 mine hello\n"},
		{"/f", map[string]string{pb.AttrHTTPPerm: "0755", pb.AttrHTTPUID: "1", pb.AttrHTTPGID: "2"}, "755 1:2 f hello\n"},
	} {
		src, err := ParseHTTP(url+c.path, c.attrs)
		if err != nil {
			t.Fatal(err)
		}
		res, err := fetcher(t).HTTP(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		if got := show(t, res); got != c.want {
			t.Errorf("%s %v: got %q, want %q", c.path, c.attrs, got, c.want)
		}
		if res.Pin != fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("hello"))) {
			t.Errorf("pin %s", res.Pin)
		}
	}
}

// TestHTTPUnchanged holds that a file that did not change is not sent again, by each of the ways to tell.
func TestHTTPUnchanged(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request, body string) (sent bool){
		"etag": func(w http.ResponseWriter, r *http.Request, body string) bool {
			w.Header().Set("ETag", `"`+body+`"`)
			if r.Header.Get("If-None-Match") == `"`+body+`"` {
				w.WriteHeader(304)
				return false
			}
			io.WriteString(w, body)
			return true
		},
		"date": func(w http.ResponseWriter, r *http.Request, body string) bool {
			date := "Tue, 01 Feb 2022 10:00:0" + body[:1] + " GMT"
			w.Header().Set("Last-Modified", date)
			if r.Header.Get("If-Modified-Since") == date {
				w.WriteHeader(304)
				return false
			}
			io.WriteString(w, body)
			return true
		},
	} {
		body, sent := "1one", 0
		url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if answer(w, r, body) {
				sent++
			}
		})
		f := fetcher(t)
		var keys []string
		for _, b := range []string{"1one", "1one", "2two"} {
			body = b
			res, err := f.HTTP(t.Context(), HTTP{URL: url + "/f"})
			if err != nil {
				t.Fatal(err)
			}
			if got := show(t, res); got != "600 0:0 f "+b+"\n" {
				t.Errorf("%s: got %q", name, got)
			}
			keys = append(keys, res.Key)
		}
		if keys[0] != keys[1] || keys[1] == keys[2] {
			t.Errorf("%s: keys %q", name, keys)
		}
		if sent != 2 || requests.Load() != 3 {
			t.Errorf("%s: sent %d times with %d requests, want 2 and 3", name, sent, requests.Load())
		}
	}
}

// TestHTTPEqualETag takes a server that has etags but does not understand the question.
func TestHTTPEqualETag(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `W/"x"`)
		io.WriteString(w, "hello")
	})
	f := fetcher(t)
	first, err := f.HTTP(t.Context(), HTTP{URL: url + "/f"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.HTTP(t.Context(), HTTP{URL: url + "/f"})
	if err != nil || again.Key != first.Key {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestHTTPChecksum(t *testing.T) {
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	f := fetcher(t)
	for _, sum := range []string{
		fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("hello"))),
		fmt.Sprintf("sha384:%x", sha512.Sum384([]byte("hello"))),
		fmt.Sprintf("sha512:%x", sha512.Sum512([]byte("hello"))),
	} {
		src, err := ParseHTTP(url+"/f", map[string]string{pb.AttrHTTPChecksum: sum})
		if err != nil {
			t.Fatal(err)
		}
		before := requests.Load()
		res, err := f.HTTP(t.Context(), src)
		if err != nil || requests.Load() != before {
			t.Errorf("%s: %v, asked the server %d times for the key", sum, err, requests.Load()-before)
		}
		for range 2 {
			if got := show(t, res); got != "600 0:0 f hello\n" {
				t.Errorf("%s: got %q", sum, got)
			}
		}
		if requests.Load() != before+1 {
			t.Errorf("%s: %d requests, want 1", sum, requests.Load()-before)
		}
		wrong := sum[:len(sum)-1] + map[bool]string{true: "1", false: "0"}[strings.HasSuffix(sum, "0")]
		res, err = f.HTTP(t.Context(), HTTP{URL: url + "/f", Checksum: wrong})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := res.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "does not match the checksum "+wrong) {
			t.Errorf("wrong checksum: %v", err)
		}
	}
}

func TestParseHTTPErrors(t *testing.T) {
	for _, c := range []struct{ url, name, value string }{
		{"ftp://h/f", "", ""},
		{"https:///f", "", ""},
		{"http://h/%zz", "", ""},
		{"http://h/f", pb.AttrHTTPChecksum, "md5:00"},
		{"http://h/f", pb.AttrHTTPChecksum, "sha256:00"},
		{"http://h/f", pb.AttrHTTPChecksum, "sha256:" + strings.Repeat("z", 64)},
		{"http://h/f", pb.AttrHTTPPerm, "rw"},
		{"http://h/f", pb.AttrHTTPSignatureVerify, "x"},
	} {
		if _, err := ParseHTTP(c.url, map[string]string{c.name: c.value}); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	if _, err := ParseHTTP("ftp://me:secret@h/f", nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells the password", err)
	}
}

func TestHTTPFaults(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/404", http.NotFound)
	mux.HandleFunc("/500", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "oh", 500) })
	mux.HandleFunc("/401", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "who", 401) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", 302) })
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "half")
	})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/stall", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/304", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	for path, want := range map[string]string{
		"/404": "404 Not Found", "/500": "500 Internal Server Error", "/401": "credentials: --secret",
		"/loop": "redirects", "/cut": "cut", "/hang": "nothing arrived for 200ms", "/stall": "nothing arrived for 200ms",
		"/304": "304 Not Modified",
	} {
		f := fetcher(t)
		f.Stall = 200 * time.Millisecond
		_, err := f.HTTP(t.Context(), HTTP{URL: srv.URL + path})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), srv.URL+path) {
			t.Errorf("%s: %v, want an error with %q and the URL", path, err, want)
		}
	}
	f := fetcher(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := f.HTTP(ctx, HTTP{URL: srv.URL + "/hang"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := f.HTTP(t.Context(), HTTP{URL: "http://127.0.0.1:1/f"}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
}

// TestHTTPSlow takes a server that is slow, but does not stall.
func TestHTTPSlow(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for range 6 {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	})
	f := fetcher(t)
	f.Stall = 400 * time.Millisecond
	res, err := f.HTTP(t.Context(), HTTP{URL: url + "/f"})
	if err != nil {
		t.Fatal(err)
	}
	if got := show(t, res); got != "600 0:0 f xxxxxx\n" {
		t.Errorf("got %q", got)
	}
}

// TestHTTPContentEncoding holds that a server's compression on the way is taken off, a compressed file not.
func TestHTTPContentEncoding(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, "hello")
	z.Close()
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/text" {
			w.Header().Set("Content-Encoding", "gzip")
		}
		w.Write(packed.Bytes())
	})
	for path, want := range map[string]string{"/text": "hello", "/f.gz": packed.String()} {
		res, err := fetcher(t).HTTP(t.Context(), HTTP{URL: url + path})
		if err != nil {
			t.Fatal(err)
		}
		if res.Pin != fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(want))) {
			t.Errorf("%s: got the content of %s", path, show(t, res))
		}
	}
}

func TestHTTPCredentials(t *testing.T) {
	var got []string
	other, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, "other "+r.Header.Get("Authorization"))
	})
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
		if r.URL.Path == "/away" {
			http.Redirect(w, r, strings.Replace(other, "127.0.0.1", "localhost", 1), 302)
		}
	})
	f := fetcher(t)
	f.Secrets = func(_ context.Context, id string) ([]byte, error) {
		if v, ok := map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "t0ken", "mine": "Basic abc"}[id]; ok {
			return []byte(v), nil
		}
		return nil, errors.New("no such secret")
	}
	for _, src := range []HTTP{{URL: url + "/f"}, {URL: url + "/f", AuthSecret: "mine"}, {URL: url + "/away"}} {
		if _, err := f.HTTP(t.Context(), src); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"Bearer t0ken", "Basic abc", "Bearer t0ken", "other "}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := f.HTTP(t.Context(), HTTP{URL: url, AuthSecret: "missing"}); err == nil || !strings.Contains(err.Error(), "secret missing") {
		t.Errorf("a missing secret: %v", err)
	}
}
