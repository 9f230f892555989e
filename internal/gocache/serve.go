package gocache

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

// request and response are the messages of cmd/go/internal/cacheprog, one JSON value a line. The body of a put follows
// its request as a JSON string in base64.
type request struct {
	ID       int64
	Command  string
	ActionID []byte
	OutputID []byte
	BodySize int64
}

type response struct {
	ID            int64
	Err           string     `json:",omitempty"`
	KnownCommands []string   `json:",omitempty"`
	Miss          bool       `json:",omitempty"`
	OutputID      []byte     `json:",omitempty"`
	Size          int64      `json:",omitempty"`
	Time          *time.Time `json:",omitempty"`
	DiskPath      string     `json:",omitempty"`
}

// Serve answers the go command's requests on r, to w, until it closes. own is the cache that it reads and writes,
// second the one that own is completed from.
func Serve(r io.Reader, w io.Writer, own, second Dir) error {
	s := &server{in: bufio.NewReaderSize(r, 1<<16), out: json.NewEncoder(w), own: own, second: second,
		limit: make(chan struct{}, max(2, runtime.NumCPU()))}
	if err := s.answer(response{KnownCommands: []string{"get", "put", "close"}}); err != nil {
		return err
	}
	defer s.gets.Wait()
	for {
		req, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the go command's request: %w", err)
		}
		if req.Command == "close" {
			s.gets.Wait()
			return s.answer(response{ID: req.ID})
		}
		if err := s.handle(req); err != nil {
			return err
		}
	}
}

// server answers gets side by side, since each may copy a file, and puts in the order of the stream.
type server struct {
	in          *bufio.Reader
	own, second Dir
	gets        sync.WaitGroup
	limit       chan struct{}

	mu  sync.Mutex
	out *json.Encoder
}

func (s *server) answer(r response) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Encode(r)
}

// maxLine bounds a request without its body; the go command's have some 200 bytes.
const maxLine = 1 << 16

// next reads a request. The body of a put is still to be read.
func (s *server) next() (req request, err error) {
	for {
		line, err := s.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLine {
			return req, errors.New("line too long")
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return req, json.Unmarshal(line, &req)
		}
		if err != nil {
			return req, err
		}
	}
}

// handle returns an error only where the conversation cannot go on.
func (s *server) handle(req request) error {
	var a ActionID
	if len(req.ActionID) != len(a) {
		return fmt.Errorf("request %q with an action of %d bytes", req.Command, len(req.ActionID))
	}
	copy(a[:], req.ActionID)
	switch req.Command {
	case "get":
		s.limit <- struct{}{}
		s.gets.Go(func() {
			defer func() { <-s.limit }()
			_ = s.answer(s.get(req.ID, a)) // a go command that no longer listens has closed the other way, too
		})
		return nil
	case "put":
		return s.put(req, a)
	}
	return s.answer(response{ID: req.ID, Err: fmt.Sprintf("unknown command %q", req.Command)})
}

func (s *server) get(id int64, a ActionID) response {
	e, err := s.own.Get(a)
	if err != nil {
		e, err = s.fetch(a)
	}
	if err != nil {
		return response{ID: id, Miss: true}
	}
	return response{ID: id, OutputID: e.Output[:], Size: e.Size, Time: &e.Time, DiskPath: s.own.OutputFile(e.Output)}
}

// fetch copies an entry of the second cache into the own one. What goes wrong is a miss: the go command can do without.
func (s *server) fetch(a ActionID) (Entry, error) {
	e, err := s.second.Get(a)
	if err != nil {
		return e, err
	}
	f, err := os.Open(s.second.OutputFile(e.Output))
	if err != nil {
		return e, err
	}
	defer f.Close()
	return e, s.own.Put(a, e, f)
}

func (s *server) put(req request, a ActionID) error {
	e := Entry{Size: req.BodySize, Time: time.Now()}
	if len(req.OutputID) != len(e.Output) || req.BodySize < 0 {
		return fmt.Errorf("put of %d bytes with an output id of %d bytes", req.BodySize, len(req.OutputID))
	}
	copy(e.Output[:], req.OutputID)
	var body io.Reader = strings.NewReader("")
	var text *io.LimitedReader
	if req.BodySize > 0 {
		if err := s.expect('"'); err != nil {
			return err
		}
		text = &io.LimitedReader{R: s.in, N: int64(base64.StdEncoding.EncodedLen(int(req.BodySize)))}
		body = base64.NewDecoder(base64.StdEncoding, text)
	}
	err := s.own.Put(a, e, body)
	if text != nil { // what a failed write left unread
		if _, rest := io.Copy(io.Discard, text); rest != nil {
			return rest
		}
		if err := s.expect('"'); err != nil {
			return err
		}
	}
	if err != nil {
		return s.answer(response{ID: req.ID, Err: err.Error()})
	}
	return s.answer(response{ID: req.ID, DiskPath: s.own.OutputFile(e.Output)})
}

// expect reads one byte, after white space.
func (s *server) expect(want byte) error {
	for {
		c, err := s.in.ReadByte()
		if err != nil {
			return err
		}
		if c == want {
			return nil
		}
		if c != '\n' && c != ' ' {
			return fmt.Errorf("%q in the place of %q", c, want)
		}
	}
}
