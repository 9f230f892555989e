package gotoolchain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"

	"github.com/skiff-build/skiff/internal/atomicfile"
)

// knownDatabases are the checksum databases whose keys the go command knows by name (cmd/go, modfetch/key.go).
var knownDatabases = map[string]string{
	"sum.golang.org": "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
}

// checksums asks the checksum database that GOSUMDB names; its proven state is kept below dir.
// Safe for concurrent use.
type checksums struct {
	client *sumdb.Client
	ops    *sumOps
}

// errNoDatabase is GOSUMDB=off: nothing can prove a download.
var errNoDatabase = errors.New("checksum database disabled by GOSUMDB=off")

// newChecksums reads GOSUMDB as cmd/go does: off, NAME, NAME+HASH+KEY, each also with a URL after it.
func newChecksums(gosumdb string, p *proxies, dir, machine string) (*checksums, error) {
	if gosumdb == "off" {
		return nil, errNoDatabase
	}
	if gosumdb == "sum.golang.google.cn" {
		gosumdb = "sum.golang.org https://sum.golang.google.cn"
	}
	fields := strings.Fields(gosumdb)
	if len(fields) < 1 || len(fields) > 2 {
		return nil, fmt.Errorf("GOSUMDB: want a name or key, and at most a URL: %q", gosumdb)
	}
	key := fields[0]
	if known := knownDatabases[key]; known != "" {
		key = known
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("GOSUMDB: %w", err)
	}
	ops := &sumOps{name: verifier.Name(), key: key, proxies: p, dir: dir, machine: machine}
	if len(fields) == 2 {
		if ops.base, err = url.Parse(fields[1]); err != nil {
			return nil, fmt.Errorf("GOSUMDB: %w", err)
		}
	}
	return &checksums{sumdb.NewClient(ops), ops}, nil
}

// lookup returns the h1 checksum of a module's zip, or, of VERSION/go.mod, of its go.mod file.
func (c *checksums) lookup(ctx context.Context, path, version string) (string, error) {
	lines, err := c.client.Lookup(path, version)
	if insecure := c.ops.securityError(); insecure != "" {
		return "", fmt.Errorf("checksum database %s: %s", c.ops.name, insecure)
	}
	if err != nil {
		return "", fmt.Errorf("checksum database: %w", err)
	}
	want := path + " " + version + " "
	for _, line := range lines {
		if h, ok := strings.CutPrefix(line, want); ok && strings.HasPrefix(h, "h1:") {
			return h, nil
		}
	}
	return "", fmt.Errorf("checksum database %s: no checksum of %s %s", c.ops.name, path, version)
}

// sumOps are the operations that [sumdb.Client] wants of the world.
type sumOps struct {
	name, key string
	proxies   *proxies
	dir       string // ours, written
	machine   string // the go command's own cache of the same files, read only; empty: none

	once    sync.Once
	base    *url.URL // given by GOSUMDB, else found by the first read
	baseErr error

	mu     sync.Mutex
	latest map[string][]byte // by file, where dir cannot be written
	broken string
}

// find decides whether the database is reached through a proxy: the first that supports it, and only
// where none does, the database itself (go.dev/design/25530-sumdb, "Proxying a Checksum Database").
func (o *sumOps) find() {
	if o.base != nil {
		return
	}
	at, err := o.proxies.base(context.Background(), "sumdb/"+o.name+"/supported")
	switch {
	case err == nil:
		o.base = at.JoinPath("sumdb", o.name)
	case errors.Is(err, errProxyEnd):
		o.base = &url.URL{Scheme: "https", Host: o.name}
		if host, path, ok := strings.Cut(o.name, "/"); ok {
			o.base = &url.URL{Scheme: "https", Host: host, Path: "/" + path}
		}
	default:
		o.baseErr = err
	}
}

// sumLimit bounds one answer of the database, in bytes; tiles and lookups are a few kilobytes.
const sumLimit = 1 << 20

func (o *sumOps) ReadRemote(path string) ([]byte, error) {
	o.once.Do(o.find)
	if o.baseErr != nil {
		return nil, o.baseErr
	}
	body, _, err := o.proxies.openAt(context.Background(), o.base, path)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readLimited(body, path, sumLimit)
}

func (o *sumOps) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(o.key), nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if data, ok := o.latest[file]; ok {
		return data, nil
	}
	data, err := os.ReadFile(filepath.Join(o.dir, filepath.FromSlash(file)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func (o *sumOps) WriteConfig(file string, old, now []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	path := filepath.Join(o.dir, filepath.FromSlash(file))
	have, known := o.latest[file]
	if !known {
		have, _ = os.ReadFile(path)
	}
	if !bytes.Equal(have, old) {
		// Another process moved on; the client reads again and merges.
		delete(o.latest, file)
		return sumdb.ErrWriteConflict
	}
	if o.latest == nil {
		o.latest = map[string][]byte{}
	}
	o.latest[file] = now
	writeAtomic(path, now)
	return nil
}

func (o *sumOps) ReadCache(file string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(o.dir, filepath.FromSlash(file)))
	if err != nil && o.machine != "" {
		return os.ReadFile(filepath.Join(o.machine, filepath.FromSlash(file)))
	}
	return data, err
}

func (o *sumOps) WriteCache(file string, data []byte) {
	writeAtomic(filepath.Join(o.dir, filepath.FromSlash(file)), data)
}

func (o *sumOps) Log(string) {}

func (o *sumOps) SecurityError(msg string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken = msg
}

func (o *sumOps) securityError() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.broken
}

// writeAtomic keeps data for the next process. Nothing depends on it being kept: what is lost is asked
// and proved again.
func writeAtomic(path string, data []byte) {
	if os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	_ = atomicfile.Place(path, 0o600, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
