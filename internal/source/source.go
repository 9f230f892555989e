// Package source gets what a build takes from elsewhere: files by http(s), and trees of git repositories.
//
// [ParseHTTP] and [ParseGit] read a source of LLB as BuildKit does (source/http, source/git); [Fetcher.HTTP]
// and [Fetcher.Git] settle what it means now: a [Result] with a key which names the content for ever, and a
// way to open it as a tar archive. With a checksum, or a commit, the first needs no network.
//
// Contents come from strangers. Everything is streamed, ends when nothing arrives for a while, and is
// verified against its checksum; credentials go to the host that they are for and never into a key, a record
// or an error. Git is the machine's own command, with a configuration of ours alone: no hooks, no
// credential helpers, no protocols but those of the network.
package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/skiff-build/skiff/internal/store"
)

// Fetcher gets sources. Store is required. It is safe for concurrent use.
type Fetcher struct {
	Store *store.Store

	// Secrets gives the credentials that a build was given, by id; an error says that there is no such secret.
	// nil: there are none.
	Secrets func(ctx context.Context, id string) ([]byte, error)
	// SSH gives the path of an agent's socket by id. nil: there are none.
	SSH func(id string) (socket string, err error)
	// Client does http requests. nil: one that takes proxies from the environment.
	Client *http.Client
	// Stall ends a download when no byte arrives for so long. 0: a minute.
	Stall time.Duration
	// GitCommand is the program for git sources. "": git, where PATH has it.
	GitCommand string
	// Log is told what a user may like to see, a line at a time: the output of git. nil: nobody.
	Log func(line string)
}

// Result is a source after it was settled what it means.
type Result struct {
	Key string // names the files for ever: equal keys, equal files
	Pin string // "sha256:…" of the content of a URL, or its checksum; commit or tag object of a repository
	// Open gives the files as an uncompressed tar archive, which the caller closes. It may be called again.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// keyOf makes a key of labelled values.
func keyOf(kind string, labelled ...any) string {
	h := sha256.New()
	fmt.Fprintf(h, "skiff source %s 1\n", kind)
	for i := 0; i+1 < len(labelled); i += 2 {
		fmt.Fprintf(h, "%s %q\n", labelled[i], fmt.Sprint(labelled[i+1]))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// secret returns a secret, "" when there is none.
func (f *Fetcher) secret(ctx context.Context, id string) string {
	if f.Secrets == nil {
		return ""
	}
	v, err := f.Secrets(ctx, id)
	if err != nil {
		return ""
	}
	return string(v)
}
