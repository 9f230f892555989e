package source

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/store"
)

// HTTP is a file to be got by http or https.
type HTTP struct {
	URL      string
	Checksum string // "sha256:…", sha384 or sha512; "": any content
	Filename string // "": from the response, else from the URL
	Perm     uint32 // 0: 0600
	UID, GID int
	Header   http.Header // beside our own

	AuthSecret string // id of the secret for the Authorization header. "": those of the host's name, if given
}

// ParseHTTP reads a source of LLB. The identifier is the URL.
func ParseHTTP(identifier string, attrs map[string]string) (HTTP, error) {
	src := HTTP{URL: identifier, Header: http.Header{}}
	u, err := url.Parse(identifier)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return src, fmt.Errorf("source %s: not a URL of http or https", redact(identifier))
	}
	for name, v := range attrs {
		if err := src.parseAttr(name, v); err != nil {
			return src, fmt.Errorf("source %s: %s %q: %w", redact(identifier), name, v, err)
		}
	}
	return src, nil
}

func (src *HTTP) parseAttr(name, v string) (err error) {
	number := func(bits int) int64 {
		n, e := strconv.ParseInt(v, 0, bits)
		err = e
		return n
	}
	switch name {
	case pb.AttrHTTPChecksum:
		_, _, err = parseChecksum(v)
		src.Checksum = v
	case pb.AttrHTTPFilename:
		src.Filename = v
	case pb.AttrHTTPPerm:
		src.Perm = uint32(number(32)) & 0o7777
	case pb.AttrHTTPUID:
		src.UID = int(number(64))
	case pb.AttrHTTPGID:
		src.GID = int(number(64))
	case pb.AttrHTTPAuthHeaderSecret:
		src.AuthSecret = v
	case pb.AttrHTTPSignatureVerify, pb.AttrHTTPSignatureVerifyPubKey:
		return errors.New("signatures are not verified here: use a checksum")
	default:
		field, ok := strings.CutPrefix(name, pb.AttrHTTPHeaderPrefix)
		field = http.CanonicalHeaderKey(field)
		if ok && (field == "Accept" || field == "User-Agent") {
			src.Header.Set(field, v)
		}
	}
	return err
}

// parseChecksum returns the hash that a checksum is of.
func parseChecksum(s string) (newHash func() hash.Hash, sum string, err error) {
	algorithm, sum, _ := strings.Cut(s, ":")
	switch algorithm {
	case "sha256":
		newHash = sha256.New
	case "sha384":
		newHash = sha512.New384
	case "sha512":
		newHash = sha512.New
	default:
		return nil, "", errors.New("a checksum begins with the name of its hash: sha256, sha384 or sha512")
	}
	if b, err := hex.DecodeString(sum); err != nil || len(b) != newHash().Size() || sum != strings.ToLower(sum) {
		return nil, "", fmt.Errorf("not a %s in hexadecimal", algorithm)
	}
	return newHash, sum, nil
}

// httpRecord is what is known of a URL, and of a checksum that is no sha256.
type httpRecord struct {
	Blobs        []string `json:"blobs"` // the one with the content
	ETag         string   `json:"etag,omitempty"`
	LastModified string   `json:"lastModified,omitempty"`
	Filename     string   `json:"filename,omitempty"` // that the response gave
}

const httpKind = store.KindHTTP

// HTTP settles what is at a URL. Without a checksum the server is asked, if only whether it changed.
func (f *Fetcher) HTTP(ctx context.Context, src HTTP) (Result, error) {
	if src.Checksum != "" {
		return f.pinned(src), nil
	}
	rec, err := f.current(ctx, src)
	if err != nil {
		return Result{}, err
	}
	return f.httpResult(src, rec), nil
}

// pinned is the result for a checksum: the content is got when it is needed, if it is not here.
func (f *Fetcher) pinned(src HTTP) Result {
	return Result{Key: src.key(src.name(""), src.Checksum), Pin: src.Checksum, Open: func(ctx context.Context) (io.ReadCloser, error) {
		rec, ok := f.havePinned(src.Checksum)
		if !ok {
			var err error
			if rec, err = f.download(ctx, src, httpRecord{}); err != nil {
				return nil, err
			}
			if err := f.Store.Put(httpKind, checksumKey(src.Checksum), rec); err != nil {
				return nil, err
			}
		}
		return f.openFile(src, src.name(""), rec)
	}}
}

func (f *Fetcher) havePinned(checksum string) (rec httpRecord, ok bool) {
	if f.Store.Get(httpKind, checksumKey(checksum), &rec) != nil {
		return rec, false
	}
	return rec, f.haveBlob(rec)
}

func checksumKey(checksum string) store.Key {
	return sha256.Sum256([]byte("skiff http checksum " + checksum))
}

// current returns the record of a URL, after the server was asked.
func (f *Fetcher) current(ctx context.Context, src HTTP) (rec httpRecord, err error) {
	key := store.Key(sha256.Sum256(fmt.Appendf(nil, "skiff http url %q header %q secret %q", src.URL, src.Header, src.AuthSecret)))
	unlock, err := f.Store.Lock(ctx, "http "+key.String())
	if err != nil {
		return rec, err
	}
	defer unlock()
	if f.Store.Get(httpKind, key, &rec) != nil || !f.haveBlob(rec) {
		rec = httpRecord{}
	}
	now, err := f.download(ctx, src, rec)
	if err != nil {
		return rec, err
	}
	if reflect.DeepEqual(now, rec) {
		return now, nil
	}
	return now, f.Store.Put(httpKind, key, now)
}

func (f *Fetcher) haveBlob(rec httpRecord) bool {
	h, err := rec.blob()
	if err == nil {
		_, err = f.Store.BlobSize(h)
	}
	return err == nil
}

func (r httpRecord) blob() (v1.Hash, error) {
	if len(r.Blobs) != 1 {
		return v1.Hash{}, store.ErrMiss
	}
	return v1.NewHash(r.Blobs[0])
}

func (f *Fetcher) httpResult(src HTTP, rec httpRecord) Result {
	name := src.name(rec.Filename)
	return Result{
		Key:  src.key(name, rec.Blobs[0]),
		Pin:  rec.Blobs[0],
		Open: func(context.Context) (io.ReadCloser, error) { return f.openFile(src, name, rec) },
	}
}

func (src HTTP) key(name, content string) string {
	return keyOf("http", "name", name, "mode", src.mode(), "uid", src.UID, "gid", src.GID, "content", content)
}

func (src HTTP) mode() uint32 {
	if src.Perm == 0 {
		return 0o600
	}
	return src.Perm
}

// name is the name of the file: the one asked for, else that of the response, else the last part of the URL.
func (src HTTP) name(response string) string {
	switch {
	case src.Filename != "":
		return safeName(src.Filename)
	case response != "":
		return safeName(response)
	}
	if u, err := url.Parse(src.URL); err == nil {
		return safeName(path.Base(u.Path))
	}
	return safeName("")
}

// safeName makes a file name of what a URL or a server says, as BuildKit does (source/util/pathutil).
func safeName(s string) string {
	name := path.Base(strings.TrimSpace(s))
	if name == "." || name == ".." || name == "/" || strings.ContainsFunc(name, unicode.IsControl) {
		return "download"
	}
	return name
}

// responseName is the file name in a Content-Disposition.
func responseName(h http.Header) string {
	_, params, err := mime.ParseMediaType(h.Get("Content-Disposition"))
	if err != nil || strings.HasSuffix(params["filename"], "/") {
		return ""
	}
	return params["filename"]
}

// openFile gives the file as a tar archive.
func (f *Fetcher) openFile(src HTTP, name string, rec httpRecord) (io.ReadCloser, error) {
	h, err := rec.blob()
	if err != nil {
		return nil, err
	}
	size, err := f.Store.BlobSize(h)
	if err != nil {
		return nil, err
	}
	blob, err := f.Store.OpenBlob(h)
	if err != nil {
		return nil, err
	}
	hdr := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: int64(src.mode()), Uid: src.UID, Gid: src.GID,
		ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	}
	if t, err := http.ParseTime(rec.LastModified); err == nil {
		hdr.ModTime = t
	}
	return tarStream(func(w *tar.Writer) error {
		if err := w.WriteHeader(hdr); err != nil {
			return err
		}
		_, err := io.Copy(w, blob)
		return err
	}, blob.Close), nil
}
