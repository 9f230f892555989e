package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/skiff-build/skiff/internal/store"
)

// download fetches a blob from one source, and goes on from the byte reached where a connection breaks. What it rests on is
// the digest alone: it does not matter who sent which part.
type download struct {
	r     *Registry
	from  source
	blob  v1.Descriptor
	draft *store.Draft
	whole bool // the source gives no ranges, or wrong ones
}

// errNoRange: the source answers a request for a range with something else.
var errNoRange = errors.New("the registry does not answer ranges")

func (l *download) run(ctx context.Context) error {
	e := endurance{wait: l.r.o.RetryWait}
	e.reached(l.draft.Len())
	restarted := false
	for {
		resumed := l.draft.Len() > 0
		err := l.try(ctx)
		var wrong *store.DigestError
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errNoRange):
			l.whole = true
		case errors.As(err, &wrong):
			// What was there before may be to blame.
			if rerr := l.draft.Reset(); rerr != nil {
				return rerr
			}
			if !resumed || restarted || l.from.mirror {
				return err
			}
			restarted = true
		case l.from.mirror:
			return err
		default:
			e.reached(l.draft.Len())
			if err := e.again(ctx, err); err != nil {
				return err
			}
		}
	}
}

// try asks for what is missing, once.
func (l *download) try(ctx context.Context) error {
	if l.whole {
		if err := l.draft.Reset(); err != nil {
			return err
		}
	}
	at, size := l.draft.Len(), l.blob.Size
	if at < size || size == 0 {
		if err := l.request(ctx, at); err != nil {
			return err
		}
	}
	_, _, err := l.draft.Commit()
	return err
}

func (l *download) request(ctx context.Context, at int64) error {
	rd, err := l.r.reader(ctx, l.from)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, blobURL(l.from.repo, l.blob.Digest.String()), nil)
	if err != nil {
		return err
	}
	if at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, l.blob.Size-1))
	}
	resp, err := rd.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case at > 0 && resp.StatusCode == http.StatusPartialContent:
		if !isRange(resp.Header.Get("Content-Range"), at, l.blob.Size) {
			return errNoRange
		}
	case at > 0 && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return errNoRange
	case resp.StatusCode == http.StatusOK:
		if err := l.draft.Reset(); err != nil {
			return err
		}
	default:
		if err := transport.CheckError(resp); err != nil {
			return err
		}
	}
	return l.receive(ctx, resp)
}

// receive takes what comes. An end before all is there is io.ErrUnexpectedEOF, or a *[store.DigestError] where the source
// says that this is the whole blob.
func (l *download) receive(ctx context.Context, resp *http.Response) error {
	in := &counter{Reader: resp.Body, n: l.draft.Len(), report: func(n int64) {
		l.r.progress(Transfer{Digest: l.blob.Digest.String(), Done: n, Total: l.blob.Size})
	}}
	buf := make([]byte, 128<<10)
	for {
		if ended(ctx) {
			return context.Cause(ctx)
		}
		n, rerr := in.Read(buf)
		if _, err := l.draft.Write(buf[:n]); err != nil {
			return err
		}
		if rerr == nil {
			continue
		}
		if rerr != io.EOF {
			return rerr
		}
		if l.draft.Len() < l.blob.Size && (resp.StatusCode != http.StatusOK || resp.ContentLength < 0) {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
}

// isRange tells whether a Content-Range ("bytes 5-9/10") begins at a byte, and is of a whole of size bytes. It may end before.
func isRange(header string, at, size int64) bool {
	unit, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	span, total, ok := strings.Cut(rest, "/")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return false
	}
	first, last, ok := parseSpan(span)
	if !ok || first != at || last >= size {
		return false
	}
	n, err := strconv.ParseUint(total, 10, 63)
	return total == "*" || err == nil && int64(n) == size
}

// parseSpan reads "5-9": the first byte and the last one.
func parseSpan(s string) (first, last int64, ok bool) {
	a, b, _ := strings.Cut(s, "-")
	x, err1 := strconv.ParseUint(a, 10, 63)
	y, err2 := strconv.ParseUint(b, 10, 63)
	return int64(x), int64(y), err1 == nil && err2 == nil && x <= y
}
