package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/store"
)

const mib = 1 << 20

// noise is n bytes that do not compress.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// bigImage has one uncompressed layer of about n bytes, the layer's digest and its content.
func bigImage(t testing.TB, n int, seed byte) (v1.Image, v1.Hash, []byte) {
	t.Helper()
	content := makeTar(t, file{name: "big", content: string(noise(n, seed))})
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(content, types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	return img, hashOf(content), content
}

// blobServer answers GET requests for one blob: each by the next of its answers, the last one for ever.
type blobServer struct {
	content []byte
	answers []func(b *blobServer, w http.ResponseWriter, r *http.Request)

	mu    sync.Mutex
	asked []string // the Range of each request
}

func (b *blobServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	answer := b.answers[min(len(b.asked), len(b.answers)-1)]
	b.asked = append(b.asked, r.Header.Get("Range"))
	b.mu.Unlock()
	answer(b, w, r)
}

func (b *blobServer) ranges() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.asked...)
}

type answer = func(b *blobServer, w http.ResponseWriter, r *http.Request)

// at is where a request begins.
func (b *blobServer) at(r *http.Request) int {
	from, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	n, _ := strconv.Atoi(from)
	return n
}

// good answers as it should; n >= 0: and breaks off after n bytes.
func good(n int, then func(*http.Request)) answer {
	return func(b *blobServer, w http.ResponseWriter, r *http.Request) {
		at := b.at(r)
		b.head(w, r, at, fmt.Sprintf("bytes %d-%d/%d", at, len(b.content)-1, len(b.content)))
		b.body(w, r, b.content[at:], n, then)
	}
}

func (b *blobServer) head(w http.ResponseWriter, r *http.Request, at int, contentRange string) {
	w.Header().Set("Content-Length", fmt.Sprint(len(b.content)-at))
	if r.Header.Get("Range") != "" {
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
	}
}

func (b *blobServer) body(w http.ResponseWriter, r *http.Request, rest []byte, n int, then func(*http.Request)) {
	if n < 0 || n >= len(rest) {
		w.Write(rest)
		return
	}
	w.Write(rest[:n])
	w.(http.Flusher).Flush()
	then(r)
}

func breaks(*http.Request)  { panic(http.ErrAbortHandler) }
func hangs(r *http.Request) { <-r.Context().Done() }

// ignoring sends all, whatever was asked for.
func ignoring(n int) answer {
	return func(b *blobServer, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(b.content)))
		b.body(w, r, b.content, n, breaks)
	}
}

// lying sends a range, and says of it what it is told.
func lying(header string) answer {
	return func(b *blobServer, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			good(-1, nil)(b, w, r)
			return
		}
		b.head(w, r, 0, header)
		w.Write(b.content)
	}
}

func status(code int, header ...string) answer {
	return func(_ *blobServer, w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// A download goes on where it broke off, and begins anew where that is not to be had.
func TestPullContinues(t *testing.T) {
	img, digest, content := bigImage(t, 6*mib, 1)
	wrong := bytes.Repeat([]byte("x"), 2*mib)
	other := func(b *blobServer, w http.ResponseWriter, r *http.Request) { // another blob's beginning, then it breaks
		b.head(w, r, 0, "")
		b.body(w, r, append(append([]byte{}, wrong...), content[len(wrong):]...), 2*mib, breaks)
	}
	for _, c := range []struct {
		name    string
		answers []answer
		asked   []string // bytes at which each request began; "": all
		want    string   // of the error
	}{
		{"breaks off", []answer{good(2*mib, breaks), good(-1, nil)}, []string{"", "2097152"}, ""},
		{"breaks off again and again", []answer{good(mib, breaks)}, []string{"", "1048576", "2097152", "3145728", "4194304", "5242880", "6291456"}, ""},
		{"stalls", []answer{good(2*mib, hangs), good(mib, hangs), good(-1, nil)}, []string{"", "2097152", "3145728"}, ""},
		{"gets nowhere", []answer{good(2*mib, breaks), good(0, breaks)}, []string{"", "2097152", "2097152", "2097152", "2097152", "2097152"}, "what has come is kept"},
		{"ends early, with no word on its length", []answer{func(b *blobServer, w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(b.content[:2*mib])
		}, good(-1, nil)}, []string{"", "2097152"}, ""},
		{"200 to a range", []answer{good(2*mib, breaks), ignoring(-1)}, []string{"", "2097152"}, ""},
		{"200 to each range, and breaks", []answer{good(2*mib, breaks), ignoring(3 * mib), ignoring(-1)}, []string{"", "2097152", "3145728"}, ""},
		{"416", []answer{good(2*mib, breaks), status(416), good(-1, nil)}, []string{"", "2097152", ""}, ""},
		{"429", []answer{good(2*mib, breaks), status(429, "Retry-After", "0"), good(-1, nil)}, []string{"", "2097152", "2097152"}, ""},
		{"404 in the middle", []answer{good(2*mib, breaks), status(404)}, []string{"", "2097152"}, "not found: the registry lacks a part"},
		{"another range", []answer{good(2*mib, breaks), lying("bytes 0-5/6")}, []string{"", "2097152", ""}, ""},
		{"another size", []answer{good(2*mib, breaks), lying(fmt.Sprintf("bytes %d-%d/%d", 2*mib, 3*mib, 4*mib))}, []string{"", "2097152", ""}, ""},
		{"no range at all", []answer{good(2*mib, breaks), lying("")}, []string{"", "2097152", ""}, ""},
		{"the range that was asked for, and other bytes", []answer{good(2*mib, breaks),
			lying(fmt.Sprintf("bytes %d-%d/%d", 2*mib, len(content)-1, len(content)))}, []string{"", "2097152", ""}, ""},
		{"another beginning", []answer{other, good(-1, nil)}, []string{"", "2097152", ""}, ""},
		{"206 to no range", []answer{func(b *blobServer, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206) }}, []string{""}, "status 206"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newRegistry(t)
			f.push(t, "x:1", img)
			b := &blobServer{content: content, answers: c.answers}
			f.spoilWith("/blobs/"+digest.String(), b.ServeHTTP)
			l := newLibrary(t)
			limit := time.Minute
			if c.name == "stalls" {
				limit = 300 * time.Millisecond
			}
			_, err := client(t, l, RegistryOptions{StallIn: limit}).Pull(t.Context(), f.host+"/x:1", nil, false)
			if c.want == "" && err != nil {
				t.Error(err)
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), digest.Hex[:12]) {
					t.Errorf("error %v, want one with %q and the blob", err, c.want)
				}
			} else {
				leavesNothing(t, l)
			}
			var asked []string
			for _, r := range b.ranges() {
				from, to, _ := strings.Cut(strings.TrimPrefix(r, "bytes="), "-")
				if r != "" && to != fmt.Sprint(len(content)-1) {
					t.Errorf("asked for %q", r)
				}
				asked = append(asked, from)
			}
			if fmt.Sprint(asked) != fmt.Sprint(c.asked) {
				t.Errorf("asked from %q, want %q", asked, c.asked)
			}
		})
	}
}

func leavesNothing(t *testing.T, l *Library) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(l.st.Root(), "tmp"))
	if err != nil || len(entries) != 0 {
		t.Errorf("left in tmp: %v %v", entries, err)
	}
}

// A pull goes on with what one before it left, when it was stopped, or killed in the middle of a write.
func TestPullContinuesAnother(t *testing.T) {
	img, digest, content := bigImage(t, 4*mib, 2)
	for _, c := range []struct {
		name  string
		left  []byte // nil: what a pull leaves that is stopped after 2 MiB
		asked string
	}{
		{"stopped", nil, "some"},
		{"killed", content[:3*mib], "3145728"},
		{"corrupted", append(noise(mib, 9), content[mib:3*mib]...), "3145728"},
		{"too long", append(append([]byte{}, content...), '!'), ""},
		{"complete", content, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newRegistry(t)
			f.push(t, "x:1", img)
			l := newLibrary(t)
			draft := filepath.Join(l.st.Root(), "tmp", "draft-"+digest.Hex)
			if c.left != nil {
				write(t, draft, string(c.left))
			} else {
				b := &blobServer{content: content, answers: []answer{good(2*mib, hangs)}}
				f.spoilWith("/blobs/"+digest.String(), b.ServeHTTP)
				ctx, stop := context.WithCancel(t.Context())
				r := client(t, l, RegistryOptions{Progress: func(tr Transfer) {
					if tr.Digest == digest.String() && tr.Done >= 3*mib/2 {
						stop()
					}
				}})
				start := time.Now()
				if _, err := r.Pull(ctx, f.host+"/x:1", nil, false); !errors.Is(err, context.Canceled) || time.Since(start) > time.Minute {
					t.Fatalf("%v after %v", err, time.Since(start))
				}
			}
			b := &blobServer{content: content, answers: []answer{good(-1, nil)}}
			f.spoilWith("/blobs/"+digest.String(), b.ServeHTTP)
			if _, err := client(t, l, RegistryOptions{}).Pull(t.Context(), f.host+"/x:1", nil, false); err != nil {
				t.Fatal(err)
			}
			want := []string{"bytes=" + c.asked + fmt.Sprintf("-%d", len(content)-1)}
			switch c.name {
			case "corrupted":
				want = append(want, "") // once more, whole
			case "too long":
				want = []string{""}
			case "complete":
				want = nil
			}
			got := b.ranges()
			if c.asked == "some" && len(got) == 1 && b.at(&http.Request{Header: http.Header{"Range": got}}) >= 3*mib/2 {
				want = got
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("asked for %q, want %q", got, want)
			}
			leavesNothing(t, l)
		})
	}
}

// Two pulls of a blob at once fetch it once, also when two processes do it.
func TestPullTwiceAtOnce(t *testing.T) {
	img, digest, content := bigImage(t, 2*mib, 3)
	f := newRegistry(t)
	f.push(t, "x:1", img)
	b := &blobServer{content: content, answers: []answer{good(mib, func(*http.Request) {
		time.Sleep(100 * time.Millisecond)
		breaks(nil)
	}), good(-1, nil)}}
	f.spoilWith("/blobs/"+digest.String(), b.ServeHTTP)
	l := newLibrary(t)
	st, err := store.Open(l.st.Root())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var all sync.WaitGroup
	for _, lib := range []*Library{l, NewLibrary(st), l} {
		all.Go(func() {
			if _, err := client(t, lib, RegistryOptions{}).Pull(t.Context(), f.host+"/x:1", nil, false); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := b.ranges(); len(got) != 2 {
		t.Errorf("asked for %q", got)
	}
	leavesNothing(t, l)
}

// What a mirror gives of a blob before it breaks is not fetched again from the registry.
func TestPullContinuesMirror(t *testing.T) {
	img, digest, content := bigImage(t, 4*mib, 4)
	real, mirror := newRegistry(t), newRegistry(t)
	real.push(t, "x:1", img)
	mirror.push(t, "x:1", img)
	half := &blobServer{content: content, answers: []answer{good(3*mib, breaks)}}
	mirror.spoilWith("/blobs/"+digest.String(), half.ServeHTTP)
	rest := &blobServer{content: content, answers: []answer{good(-1, nil)}}
	real.spoilWith("/blobs/"+digest.String(), rest.ServeHTTP)
	r := client(t, newLibrary(t), RegistryOptions{Mirrors: map[string][]string{real.host: {"http://" + mirror.host}}})
	if _, err := r.Pull(t.Context(), real.host+"/x:1", nil, false); err != nil {
		t.Fatal(err)
	}
	if got := rest.ranges(); len(got) != 1 || !strings.HasPrefix(got[0], "bytes=3145728-") {
		t.Errorf("asked the registry for %q", got)
	}
}

// uploads is what a registry does with uploads, and where it fails. It keeps apart which repository has which blob.
type uploads struct {
	f *fakeRegistry

	cutAt   int64 // PATCH breaks off when the session has that many bytes; 0: never
	cuts    int   // how often
	stall   bool  // instead, it takes nothing more
	loses   bool  // and the bytes of that request are lost
	forgets bool  // and so is the session
	status  func(w http.ResponseWriter, have int64)
	most    int64 // bytes that one request may have; 0: any
	noRange bool  // Content-Range is refused
	lostPut int   // answers to PUT that are lost
	slow    bool  // the last bytes of each upload are not taken
	seen    func(received int64)

	mu       sync.Mutex
	next     int
	quit     chan struct{}
	sessions map[string][]byte
	has      map[string]bool // "repo@digest"
	received int64
	log      []string // "PATCH 0-99", "GET", … of blobs that are not small
	mounts   []string
}

func withUploads(t *testing.T, u *uploads) *uploads {
	t.Helper()
	u.f, u.sessions, u.has = newRegistry(t), map[string][]byte{}, map[string]bool{}
	u.quit = make(chan struct{})
	t.Cleanup(func() { close(u.quit) })
	u.f.spoil = u.ServeHTTP
	u.f.takes = func(r *http.Request) bool {
		return r.Header.Get("Skip") == "" && strings.Contains(r.URL.Path, "/blobs/") && r.Method != ""
	}
	return u
}

func (u *uploads) note(format string, a ...any) { u.log = append(u.log, fmt.Sprintf(format, a...)) }

func (u *uploads) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	repo, what, _ := strings.Cut(path, "/blobs/")
	id := strings.TrimPrefix(what, "uploads/")
	u.mu.Lock()
	defer u.mu.Unlock()
	_, open := u.sessions[id]
	answer := func(code int) {
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(u.sessions[id])-1)))
		w.WriteHeader(code)
	}
	switch {
	case r.Method == http.MethodHead:
		if !u.has[repo+"@"+what] {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusOK)
	case r.Method == http.MethodGet && !strings.HasPrefix(what, "uploads/"):
		resp, err := u.inner(http.MethodGet, repo, what, nil)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	case r.Method == http.MethodPost:
		if from := r.URL.Query().Get("from"); from != "" {
			u.mounts = append(u.mounts, from)
			if digest := r.URL.Query().Get("mount"); u.has[from+"@"+digest] {
				u.has[repo+"@"+digest] = true
				w.WriteHeader(http.StatusCreated)
				return
			}
		}
		u.next++
		id = fmt.Sprint(u.next)
		u.sessions[id] = []byte{}
		answer(http.StatusAccepted)
	case !open:
		u.note("%s gone", r.Method)
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPatch:
		u.patch(w, r, id, answer)
	case r.Method == http.MethodGet:
		u.note("GET")
		if u.status != nil {
			u.status(w, int64(len(u.sessions[id])))
			return
		}
		answer(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		u.note("DELETE")
		delete(u.sessions, id)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		digest := r.URL.Query().Get("digest")
		small := len(u.sessions[id]) < 64<<10
		if !small {
			u.note("PUT")
		}
		if fmt.Sprintf("sha256:%x", sha256.Sum256(u.sessions[id])) != digest {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if resp, err := u.inner(http.MethodPost, repo, "uploads/?digest="+digest, u.sessions[id]); err != nil || resp.StatusCode != http.StatusCreated {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		delete(u.sessions, id)
		u.has[repo+"@"+digest] = true
		if u.lostPut > 0 && !small {
			u.lostPut--
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusCreated)
	}
}

// inner asks the registry behind.
func (u *uploads) inner(method, repo, what string, body []byte) (*http.Response, error) {
	req, err := http.NewRequest(method, "http://"+u.f.host+"/v2/"+repo+"/blobs/"+what, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Skip", "1")
	return http.DefaultClient.Do(req)
}

func (u *uploads) patch(w http.ResponseWriter, r *http.Request, id string, answer func(int)) {
	have := u.sessions[id]
	span := r.Header.Get("Content-Range")
	if span != "" && (u.noRange || !strings.HasPrefix(span, fmt.Sprintf("%d-", len(have)))) {
		u.note("PATCH %s refused", span)
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	if u.most > 0 && (r.ContentLength < 0 || r.ContentLength > u.most) {
		u.note("PATCH too large")
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	limit := int64(1 << 40)
	cut := u.cutAt > 0 && u.cuts > 0
	if cut {
		limit = max(0, u.cutAt-int64(len(have)))
	}
	var got []byte
	var err error
	for buf := make([]byte, 64<<10); err == nil && int64(len(got)) < limit; {
		var n int
		n, err = r.Body.Read(buf[:min(int64(len(buf)), limit-int64(len(got)))])
		got = append(got, buf[:n]...)
		if u.seen != nil {
			u.seen(int64(len(got)))
		}
		if u.slow && len(got) >= mib {
			u.mu.Unlock()
			<-u.quit
			u.mu.Lock()
			panic(http.ErrAbortHandler)
		}
	}
	if err == io.EOF {
		err = nil
	}
	u.received += int64(len(got))
	if len(got) >= 64<<10 {
		u.note("PATCH %s", span)
	}
	cut = cut && int64(len(got)) == limit
	if !cut || !u.loses {
		have = append(have, got...)
	}
	u.sessions[id] = have
	if cut {
		u.cuts--
		if !u.loses {
			u.cutAt *= 2
		}
		if u.forgets {
			delete(u.sessions, id)
		}
		if u.stall {
			u.mu.Unlock()
			<-u.quit // a server does not see that a client leaves before it has read the body
			u.mu.Lock()
		}
		panic(http.ErrAbortHandler)
	}
	if err == nil {
		answer(http.StatusAccepted)
	}
}

// An upload goes on where it broke off if the registry knows how, and begins anew if not.
func TestPushContinues(t *testing.T) {
	const size = 6 * mib // and a few bytes
	answer := func(code int, header string) func(http.ResponseWriter, int64) {
		return func(w http.ResponseWriter, _ int64) {
			if header != "" {
				w.Header().Set("Range", header)
			}
			w.WriteHeader(code)
		}
	}
	for _, c := range []struct {
		name string
		u    *uploads
		most int64 // MiB that the registry receives, at most
		log  string
		want string // of the error
	}{
		{"nothing happens", &uploads{}, 7, "PATCH ;PUT", ""},
		{"breaks off", &uploads{cutAt: 3 * mib, cuts: 1}, 7, "PATCH ;GET;PATCH 3145728-;PUT", ""},
		{"breaks off again", &uploads{cutAt: 2 * mib, cuts: 2}, 7, "PATCH ;GET;PATCH 2097152-;GET;PATCH 4194304-;PUT", ""},
		{"stalls", &uploads{cutAt: 3 * mib, cuts: 1, stall: true}, 7, "PATCH ;GET;PATCH 3145728-;PUT", ""},
		{"loses what broke off", &uploads{cutAt: 3 * mib, cuts: 1, loses: true}, 10, "PATCH ;GET;PATCH ;PUT", ""},
		{"forgets the session", &uploads{cutAt: 3 * mib, cuts: 1, forgets: true}, 10, "PATCH ;GET gone;PATCH ;PUT", ""},
		{"tells no status", &uploads{cutAt: 3 * mib, cuts: 1, status: answer(416, "")}, 10, "PATCH ;GET;PATCH ;PUT", ""},
		{"tells nothing", &uploads{cutAt: 3 * mib, cuts: 1, status: answer(204, "")}, 10, "PATCH ;GET;PATCH ;PUT", ""},
		{"tells of more than was sent", &uploads{cutAt: 3 * mib, cuts: 1, status: answer(204, "0-99999999999")}, 10, "PATCH ;GET;PATCH ;PUT", ""},
		{"tells another range", &uploads{cutAt: 3 * mib, cuts: 1, status: answer(204, "5-9")}, 10, "PATCH ;GET;PATCH ;PUT", ""},
		{"tells too little", &uploads{cutAt: 3 * mib, cuts: 1, status: answer(204, "0-1048575")}, 10, "PATCH ;GET;PATCH 1048576- refused;PATCH ;PUT", ""},
		{"takes no ranges", &uploads{cutAt: 3 * mib, cuts: 1, noRange: true}, 10, "PATCH ;GET;PATCH 3145728- refused;PATCH ;PUT", ""},
		{"loses the last answer", &uploads{lostPut: 1}, 7, "PATCH ;PUT;PUT gone", ""},
		{"takes small pieces alone", &uploads{most: 4 * mib}, 7, "PATCH too large;PATCH 0-4194303;PATCH 4194304-;PUT", ""},
		{"takes no pieces", &uploads{most: mib}, 7, "PATCH too large;PATCH too large", "layers of this size"},
		{"gets nowhere", &uploads{cutAt: 3 * mib, cuts: 100, loses: true}, 99, "", "the connection broke"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := withUploads(t, c.u)
			l := newLibrary(t)
			img, digest, content := bigImage(t, size, 5)
			if _, err := l.Put(t.Context(), img, "x"); err != nil {
				t.Fatal(err)
			}
			limit := time.Minute
			if c.u.stall {
				limit = 500 * time.Millisecond
			}
			var mu sync.Mutex
			var last Transfer
			_, err := client(t, l, RegistryOptions{StallIn: limit}).Push(t.Context(), img, u.f.host+"/x:1", PushOptions{
				Format: Format{Compression: "uncompressed"},
				Progress: func(tr Transfer) {
					mu.Lock()
					defer mu.Unlock()
					if tr.Digest == digest.String() {
						last = tr
					}
				},
			})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := u.blob(t, "x", digest); !bytes.Equal(got, content) {
					t.Errorf("%d bytes arrived, not what was sent", len(got))
				}
				if last.Done != int64(len(content)) || last.Total != last.Done || last.Exists {
					t.Errorf("progress ends with %+v", last)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), digest.Hex[:12]) {
				t.Errorf("error %v, want one with %q and the blob", err, c.want)
			}
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.received > c.most*mib {
				t.Errorf("%d bytes were sent", u.received)
			}
			var log []string
			for _, s := range u.log {
				s = strings.Replace(s, fmt.Sprintf("-%d", len(content)-1), "-", 1)
				log = append(log, s)
			}
			if got := strings.Join(log, ";"); c.log != "" && got != c.log {
				t.Errorf("requests %q, want %q", got, c.log)
			}
		})
	}
}

func (u *uploads) blob(t *testing.T, repo string, h v1.Hash) []byte {
	t.Helper()
	resp, err := u.inner(http.MethodGet, repo, h.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Blobs come from other repositories of the registry, by what is known of each: that it was fetched from there, or sent there.
func TestPushMounts(t *testing.T) {
	u := withUploads(t, &uploads{})
	img, digest, content := bigImage(t, 2*mib, 6)
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	ours := func(repo string) {
		t.Helper()
		for _, b := range [][]byte{content, config} {
			h := hashOf(b).String()
			if resp, err := u.inner(http.MethodPost, repo, "uploads/?digest="+h, b); err != nil || resp.StatusCode != http.StatusCreated {
				t.Fatal(err, resp)
			}
			u.has[repo+"@"+h] = true
		}
	}
	ours("base/os")
	raw, _ := img.RawManifest()
	req, _ := http.NewRequest(http.MethodPut, "http://"+u.f.host+"/v2/base/os/manifests/1", bytes.NewReader(raw))
	req.Header.Set("Content-Type", string(types.OCIManifestSchema1))
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(err, resp)
	}
	l := newLibrary(t)
	r := client(t, l, RegistryOptions{})
	if _, err := r.Pull(t.Context(), u.f.host+"/base/os:1", nil, false); err != nil {
		t.Fatal(err)
	}
	// An image with that layer and one of its own.
	own := makeTar(t, file{name: "own", content: string(noise(mib, 7))})
	app, err := l.Assemble(t.Context(), Spec{Config: []byte(plainConfig), Layers: []Layer{
		{DiffID: digest, Size: int64(len(content)), Blob: v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: digest, Size: int64(len(content))},
			Open: layerOf(content).Open},
		layerOf(own),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	existed := map[string]bool{}
	o := PushOptions{Format: Format{Compression: "uncompressed"}, Progress: func(tr Transfer) {
		mu.Lock()
		defer mu.Unlock()
		existed[tr.Digest] = tr.Exists
	}}
	u.received = 0
	if _, err := r.Push(t.Context(), app, u.f.host+"/team/app:1", o); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(u.mounts) != "[base/os]" || !existed[digest.String()] || existed[hashOf(own).String()] {
		t.Errorf("mounted from %q, there were %v", u.mounts, existed)
	}
	if u.received > int64(len(own))+mib/2 {
		t.Errorf("%d bytes were sent", u.received)
	}
	// Another repository: now all of it is somewhere.
	u.received, u.mounts = 0, nil
	if _, err := r.Push(t.Context(), app, u.f.host+"/team/other:1", o); err != nil {
		t.Fatal(err)
	}
	if u.received != 0 || len(u.mounts) != 3 {
		t.Errorf("%d bytes were sent, mounted from %q", u.received, u.mounts)
	}
	// A registry that has lost what it had opens an upload instead.
	u.received, u.has = 0, map[string]bool{}
	if _, err := r.Push(t.Context(), app, u.f.host+"/team/third:1", o); err != nil {
		t.Fatal(err)
	}
	if u.received < int64(len(own)+len(content)) {
		t.Errorf("%d bytes were sent", u.received)
	}
}

// gate is a layer whose content comes when it may.
type gate struct {
	b    []byte
	at   int
	from int // where it waits
	open chan struct{}
}

func (g *gate) Read(p []byte) (int, error) {
	if g.at >= g.from {
		<-g.open
	}
	if g.at == len(g.b) {
		return 0, io.EOF
	}
	n := copy(p, g.b[g.at:min(len(g.b), g.at+100_000)])
	g.at += n
	return n, nil
}

func (g *gate) Close() error { return nil }

// gated is an image of one layer that cannot be compressed to its end before g opens.
func gated(t *testing.T, g *gate) v1.Image {
	t.Helper()
	h := hashOf(g.b)
	config := strings.Replace(plainConfig, `"diff_ids":null`, fmt.Sprintf(`"diff_ids":[%q]`, h), 1)
	raw := mustJSON(t, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: hashOf([]byte(config)), Size: int64(len(config))},
		Layers: []v1.Descriptor{{MediaType: types.OCIUncompressedLayer, Digest: h, Size: int64(len(g.b))}}})
	img, err := newImage(raw, []byte(config), func(v1.Descriptor) (io.ReadCloser, error) { return g, nil })
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// A layer is on its way before it is compressed to the end; what is stored is what was sent.
func TestPushSendsWhileCompressing(t *testing.T) {
	for _, c := range []struct {
		name  string
		u     *uploads
		there bool // the registry has the layer
		log   string
	}{
		{"streams", &uploads{}, false, "PATCH ;PUT"},
		{"breaks off", &uploads{cutAt: 2 * mib, cuts: 1}, false, "PATCH ;GET;PATCH 2097152-;PUT"},
		{"forgets the session", &uploads{cutAt: 2 * mib, cuts: 1, forgets: true}, false, "PATCH ;GET gone;PATCH ;PUT"},
		{"is there", &uploads{slow: true}, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := withUploads(t, c.u)
			l := newLibrary(t)
			g := &gate{b: makeTar(t, file{name: "f", content: string(noise(6*mib, 8))}), from: 4 * mib, open: make(chan struct{})}
			u.seen = func(received int64) {
				if received >= mib {
					select {
					case <-g.open:
					default:
						close(g.open)
					}
				}
			}
			packed, _ := gzipOf(t, g.b, nil)
			if c.there {
				u.has["x@"+hashOf(packed).String()] = true
			}
			var mu sync.Mutex
			var ends []Transfer
			_, err := client(t, l, RegistryOptions{}).Push(t.Context(), gated(t, g), u.f.host+"/x:1", PushOptions{Progress: func(tr Transfer) {
				mu.Lock()
				defer mu.Unlock()
				if tr.Done == tr.Total && tr.Total > mib {
					ends = append(ends, tr)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			want := Transfer{Digest: hashOf(packed).String(), Layer: hashOf(g.b).String(), Done: int64(len(packed)), Total: int64(len(packed))}
			if c.there {
				want.Layer, want.Exists = "", true
			}
			if len(ends) != 1 || ends[0] != want {
				t.Errorf("progress ends with %+v, want %+v", ends, want)
			}
			if _, n, err := l.st.Blob(hashOf(packed)); err != nil || n != int64(len(packed)) {
				t.Errorf("it is not in the store: %d %v", n, err)
			}
			if c.there {
				u.mu.Lock()
				defer u.mu.Unlock()
				if len(u.log) == 0 || u.log[len(u.log)-1] != "DELETE" {
					t.Errorf("requests %q: the upload was not given up", u.log)
				}
				return
			}
			if got := u.blob(t, "x", hashOf(packed)); !bytes.Equal(got, packed) {
				t.Errorf("%d bytes arrived, not what was compressed", len(got))
			}
			u.mu.Lock()
			got := strings.ReplaceAll(strings.Join(u.log, ";"), fmt.Sprintf("-%d", len(packed)-1), "-")
			u.mu.Unlock()
			if got != c.log {
				t.Errorf("requests %q, want %q", got, c.log)
			}
			leavesNothing(t, l)
		})
	}
}

// What ends the upload ends the compressing, and the other way round.
func TestPushStopsCompressing(t *testing.T) {
	t.Run("the registry refuses", func(t *testing.T) {
		u := withUploads(t, &uploads{})
		g := &gate{b: makeTar(t, file{name: "f", content: string(noise(8*mib, 9))}), from: 4 * mib, open: make(chan struct{})}
		u.f.takes = func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/uploads/") }
		u.f.spoil = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			time.AfterFunc(100*time.Millisecond, sync.OnceFunc(func() { close(g.open) }))
		}
		l := newLibrary(t)
		_, err := client(t, l, RegistryOptions{}).Push(t.Context(), gated(t, g), u.f.host+"/x:1", PushOptions{})
		if err == nil || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("%v", err)
		}
		if g.at == len(g.b) {
			t.Error("it was compressed to the end")
		}
		leavesNothing(t, l)
	})
	t.Run("the layer is damaged", func(t *testing.T) {
		u := withUploads(t, &uploads{})
		l := newLibrary(t)
		img := assemble(t, l, makeTar(t, file{name: "f", content: string(noise(4*mib, 10))}))
		m, _ := img.Manifest()
		path, _, err := l.st.Blob(m.Layers[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, string(noise(int(m.Layers[0].Size), 11)))
		_, err = client(t, l, RegistryOptions{}).Push(t.Context(), img, u.f.host+"/x:1", PushOptions{})
		if err == nil || !strings.Contains(err.Error(), "was damaged") {
			t.Errorf("%v", err)
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		for _, s := range u.log {
			if s == "PUT" {
				t.Error("it was put in its place")
			}
		}
		leavesNothing(t, l)
	})
	t.Run("the user", func(t *testing.T) {
		u := withUploads(t, &uploads{cutAt: 2 * mib, cuts: 1, stall: true})
		l := newLibrary(t)
		img := assemble(t, l, makeTar(t, file{name: "f", content: string(noise(6*mib, 12))}))
		ctx, stop := context.WithCancel(t.Context())
		u.seen = func(n int64) {
			if n >= mib {
				stop()
			}
		}
		start := time.Now()
		_, err := client(t, l, RegistryOptions{}).Push(ctx, img, u.f.host+"/x:1", PushOptions{})
		if !errors.Is(err, context.Canceled) || time.Since(start) > time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		leavesNothing(t, l)
	})
}

func TestNextAddress(t *testing.T) {
	for _, c := range []struct{ from, location, want string }{
		{"https://r.example/v2/x/blobs/uploads/", "/v2/x/blobs/uploads/1?_state=a", "https://r.example/v2/x/blobs/uploads/1?_state=a"},
		{"https://r.example/v2/", "https://storage.example/u", "https://storage.example/u"},
		{"http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/u", "http://127.0.0.1:5001/u"},
		{"https://r.example/v2/", "https://169.254.169.254/latest", ""},
		{"https://r.example/v2/", "https://[::ffff:10.0.0.1]/", ""},
		{"https://r.example/v2/", "file:///etc/passwd", ""},
		{"https://r.example/v2/", "", ""},
		{"https://r.example/v2/", "http://%zz", ""},
	} {
		from, err := url.Parse(c.from)
		if err != nil {
			t.Fatal(err)
		}
		got, err := nextAddress(from, c.location)
		if c.want == "" && err == nil || c.want != "" && (err != nil || got.String() != c.want) {
			t.Errorf("%s, %q: %v %v", c.from, c.location, got, err)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("bytes 5-9/10", "0-99", int64(5), int64(10))
	f.Add("bytes 5-9/*", "bytes=0-0", int64(5), int64(10))
	f.Add("bytes 18446744073709551615-0/0", "0-9223372036854775807", int64(0), int64(0))
	f.Fuzz(func(t *testing.T, contentRange, span string, at, size int64) {
		if isRange(contentRange, at, size) && (at < 0 || at >= size) {
			t.Errorf("%q begins at %d of %d", contentRange, at, size)
		}
		if n, ok := arrived(span); ok && n < 0 {
			t.Errorf("%q is %d bytes", span, n)
		}
	})
}

// A token that expires in the middle costs one more request, with the body from its beginning; and one token serves for all of
// a push, other repositories that blobs come from included.
func TestPushTokens(t *testing.T) {
	u := withUploads(t, &uploads{})
	var mu sync.Mutex
	var scopes [][]string
	tokens, expired := 0, false
	committed := make(chan struct{}) // the config: the layer alone is under way when the token expires
	commit := sync.OnceFunc(func() { close(committed) })
	u.f.takes = func(r *http.Request) bool { return r.Header.Get("Skip") == "" }
	u.f.spoil = func(w http.ResponseWriter, r *http.Request) {
		large := r.Method == http.MethodPatch && r.ContentLength > mib
		if large {
			select {
			case <-committed:
			case <-r.Context().Done():
				return
			}
		}
		mu.Lock()
		if r.URL.Path == "/token" {
			tokens++
			scopes = append(scopes, r.URL.Query()["scope"])
			fmt.Fprintf(w, `{"token":"t%d"}`, tokens)
			mu.Unlock()
			return
		}
		ok := r.Header.Get("Authorization") == fmt.Sprintf("Bearer t%d", tokens)
		if ok && !expired && large {
			expired = true
			io.CopyN(io.Discard, r.Body, mib)
			ok = false
		}
		mu.Unlock()
		switch {
		case !ok:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, u.f.host))
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(r.URL.Path, "/blobs/"):
			u.ServeHTTP(w, r)
			if r.Method == http.MethodPut {
				commit()
			}
		default:
			r.Header.Set("Skip", "1")
			u.f.inner.ServeHTTP(w, r)
		}
	}
	l := newLibrary(t)
	img, digest, content := bigImage(t, 4*mib, 13)
	if _, err := l.Put(t.Context(), img, "x"); err != nil {
		t.Fatal(err)
	}
	n, err := parseName(u.f.host + "/base/os:1")
	if err == nil {
		err = l.noteBlobOrigin(digest.String(), n)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := client(t, l, RegistryOptions{})
	if _, err := r.Push(t.Context(), img, u.f.host+"/x:1", PushOptions{Format: Format{Compression: "uncompressed"}}); err != nil {
		t.Fatal(err)
	}
	if got := u.blob(t, "x", digest); !bytes.Equal(got, content) {
		t.Errorf("%d bytes arrived, not what was sent", len(got))
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{"repository:x:push,pull", "repository:base/os:pull"}
	if len(scopes) != 2 || fmt.Sprint(scopes[0]) != fmt.Sprint(want) || fmt.Sprint(u.mounts) != "[base/os]" {
		t.Errorf("asked for %q, want %q, mounted from %q", scopes, want, u.mounts)
	}
}

// Registries mostly send on to a storage, whose addresses expire: each try begins at the registry, and the range goes along.
func TestPullContinuesBehindRedirect(t *testing.T) {
	img, digest, content := bigImage(t, 4*mib, 14)
	f := newRegistry(t)
	f.push(t, "x:1", img)
	b := &blobServer{content: content, answers: []answer{good(2*mib, breaks), good(-1, nil)}}
	var authorized []string
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorized = append(authorized, r.Header.Get("Authorization"))
		b.ServeHTTP(w, r)
	}))
	t.Cleanup(storage.Close)
	n := 0
	f.spoilWith("/blobs/"+digest.String(), func(w http.ResponseWriter, r *http.Request) {
		n++
		http.Redirect(w, r, fmt.Sprintf("%s/%d", storage.URL, n), http.StatusTemporaryRedirect)
	})
	keys := keychainFunc(func(authn.Resource) (authn.Authenticator, error) {
		return &authn.Basic{Username: "u", Password: "p"}, nil
	})
	if _, err := client(t, newLibrary(t), RegistryOptions{Keychain: keys}).Pull(t.Context(), f.host+"/x:1", nil, false); err != nil {
		t.Fatal(err)
	}
	if got := b.ranges(); len(got) != 2 || !strings.HasPrefix(got[1], "bytes=2097152-") || n != 2 {
		t.Errorf("asked the storage for %q, the registry %d times", got, n)
	}
	for _, a := range authorized {
		if a != "" {
			t.Errorf("the storage was told the password: %q", a)
		}
	}
	// Nobody is sent into a private network.
	f.spoilWith("/blobs/"+digest.String(), func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/", http.StatusTemporaryRedirect)
	})
	_, err := client(t, newLibrary(t), RegistryOptions{Insecure: []string{"169.254.169.254"}}).Pull(t.Context(), f.host+"/x:1", nil, false)
	if err == nil || !strings.Contains(err.Error(), "an address of a private network") {
		t.Errorf("%v", err)
	}
}

type keychainFunc func(authn.Resource) (authn.Authenticator, error)

func (k keychainFunc) Resolve(r authn.Resource) (authn.Authenticator, error) { return k(r) }
