package gobase

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
)

func runBase64(c *call) int {
	return c.inputs(func(_ string, r io.Reader) error {
		if c.opt.has("d") {
			_, err := io.Copy(c.stdout, base64.NewDecoder(base64.StdEncoding, r))
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		text, width := base64.StdEncoding.EncodeToString(data), 76
		if c.opt.has("w") {
			if width, err = strconv.Atoi(c.opt.value("w")); err != nil {
				return err
			}
		}
		if width == 0 {
			_, err := io.WriteString(c.stdout, text)
			return err
		}
		for ; len(text) > 0; text = text[min(width, len(text)):] {
			fmt.Fprintln(c.stdout, text[:min(width, len(text))])
		}
		return nil
	})
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
			return c.inputs(func(name string, r io.Reader) error {
				d, err := digest(r)
				if err == nil {
					fmt.Fprintf(c.stdout, "%s  %s\n", d, name)
				}
				return err
			})
		}
		return c.checkSums(digest)
	}
}

func (c *call) checkSums(digest func(io.Reader) (string, error)) int {
	all, code := c.allLines()
	for _, line := range all {
		want, name, ok := strings.Cut(line, " ")
		if !ok {
			continue
		}
		name = strings.TrimLeft(name, " *")
		verdict := "OK"
		r, err := c.open(name)
		if err == nil {
			var got string
			got, err = digest(r)
			r.Close()
			if err == nil && !strings.EqualFold(got, want) {
				verdict = "FAILED"
			}
		}
		if err != nil {
			verdict = "FAILED open or read"
		}
		if verdict != "OK" {
			code = 1
		}
		if verdict != "OK" || !c.opt.has("s") {
			fmt.Fprintf(c.stdout, "%s: %s\n", name, verdict)
		}
	}
	return code
}
