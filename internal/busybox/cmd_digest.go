package busybox

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strconv"
	"strings"
)

func runBase64(c *call) int {
	width := 76
	if c.opt.has("w") {
		n, err := strconv.Atoi(c.opt.value("w"))
		if err != nil || n < 0 {
			return c.unserved("the width is not served")
		}
		width = n
	}
	return c.inputs(func(_ string, r io.Reader) error {
		if c.opt.has("d") {
			if _, err := io.Copy(c.stdout, base64.NewDecoder(base64.StdEncoding, r)); err != nil {
				c.unserved("what is no base64 is not served")
			}
			return nil
		}
		out := &wrapper{w: c.stdout, width: width}
		encoder := base64.NewEncoder(base64.StdEncoding, out)
		if _, err := io.Copy(encoder, r); err != nil {
			return err
		}
		encoder.Close()
		return out.end()
	})
}

// wrapper breaks lines after width characters; 0: nowhere.
type wrapper struct {
	w         io.Writer
	width, at int
}

func (w *wrapper) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && w.width > 0 {
		n := min(len(p), w.width-w.at)
		w.w.Write(p[:n])
		p = p[n:]
		if w.at += n; w.at == w.width {
			w.w.Write([]byte{'\n'})
			w.at = 0
		}
	}
	_, err := w.w.Write(p)
	return total, err
}

func (w *wrapper) end() error {
	if w.at > 0 {
		_, err := w.w.Write([]byte{'\n'})
		return err
	}
	return nil
}

// sum is md5sum and its kin, with -c to check a list.
func sum(newHash func() hash.Hash) func(*call) int {
	return func(c *call) int {
		digest := func(r io.Reader) (string, error) {
			h := newHash()
			_, err := io.Copy(h, r)
			return hex.EncodeToString(h.Sum(nil)), err
		}
		if !c.opt.has("c") {
			if c.opt.has("status") {
				return c.unserved("--status without -c is not served")
			}
			return c.inputs(func(name string, r io.Reader) error {
				d, err := digest(r)
				if strings.ContainsAny(name, "\\\n") {
					c.unserved("the name of the file is not served")
				}
				if err == nil {
					fmt.Fprintf(c.stdout, "%s  %s\n", d, name)
				}
				return err
			})
		}
		return c.checkSums(digest)
	}
}

// checkedLine is a line of a list of digests.
var checkedLine = regexp.MustCompile(`^([0-9a-fA-F]+) [ *]([^\\]+)$`)

func (c *call) checkSums(digest func(io.Reader) (string, error)) int {
	failed := false
	code := c.eachLine(func(line string) error {
		m := checkedLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			c.unserved("a list with other lines than digests is not served")
			return nil
		}
		verdict := "OK"
		r, err := c.open(m[2])
		if err == nil {
			var got string
			got, err = digest(r)
			r.Close()
			if err == nil && len(got) != len(m[1]) {
				c.unserved("a list with other lines than digests is not served")
			}
			if err == nil && !strings.EqualFold(got, m[1]) {
				verdict = "FAILED"
			}
		}
		if err != nil {
			c.fail(1, "%s: %s", m[2], why(err))
			verdict = "FAILED open or read"
			if c.variant() == Alpine {
				verdict = "FAILED"
			}
		}
		failed = failed || verdict != "OK"
		if !c.opt.has("status") {
			fmt.Fprintf(c.stdout, "%s: %s\n", m[2], verdict)
		}
		return nil
	})
	if failed && !c.opt.has("status") {
		c.fail(1, "WARNING: computed checksums did NOT match")
	}
	if failed {
		return 1
	}
	return code
}
