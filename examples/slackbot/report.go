package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// describe makes a message with a short table, and a file with everything: aligned text, or CSV where it is long. Of two
// images it tells the difference as well, platform by platform.
func describe(images []*image) reply {
	title, name := images[0].ref.String(), "size"
	table := [][]string{{"image", "platform", "layers", "to pull", "unpacked"}}
	rows := [][]string{{"image", "platform", "what", "bytes to pull", "bytes unpacked", "digest"}}
	for n, i := range images {
		ref := i.ref.String()
		for _, p := range i.platforms {
			table = append(table, []string{ref[strings.LastIndexByte(ref, '/')+1:], p.name, strconv.Itoa(len(p.layers)), megabytes(p.pull), megabytes(p.unpacked)})
			rows = append(rows, []string{ref, p.name, cmp.Or(p.note, "image"), exact(p.pull), exact(p.unpacked), p.digest})
			for at, l := range p.layers {
				what := fmt.Sprintf("layer %d", at+1)
				if other := images[len(images)-1-n]; other != i && other.has(l.Digest) {
					what += ", in both"
				}
				rows = append(rows, []string{ref, p.name, what, exact(l.Size), exact(l.unpacked), l.Digest})
			}
		}
	}
	if len(images) == 2 {
		title, name = title+" → "+images[1].ref.String(), "diff"
		for _, p := range images[0].platforms {
			for _, q := range images[1].platforms {
				if p.name == q.name {
					row := []string{"difference", p.name, fmt.Sprintf("%+d", len(q.layers)-len(p.layers)), difference(p.pull, q.pull), difference(p.unpacked, q.unpacked)}
					table, rows = append(table, row), append(rows, append(row, ""))
				}
			}
		}
	}
	r := reply{"*" + escape(title) + "*\n```\n" + escape(align(table[:min(len(table), 40)])) + "```", name + ".txt", []byte(title + "\n\n" + align(rows))}
	if len(rows) > 100 { // nobody reads so many, but many sort them
		var out bytes.Buffer
		_ = csv.NewWriter(&out).WriteAll(rows) // a Buffer takes everything
		r.file, r.data = name+".csv", out.Bytes()
	}
	return r
}

func (i *image) has(layer string) bool {
	return slices.ContainsFunc(i.platforms, func(p *platform) bool {
		return slices.ContainsFunc(p.layers, func(l descriptor) bool { return l.Digest == layer })
	})
}

// align sets rows in columns. What strangers put into names neither breaks a line nor ends the block that it stands in.
func align(rows [][]string) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.NewReplacer("\n", " ", "\v", " ", "\f", " ", "\r", " ", "`", "'").Replace(strings.Join(row, "\t")))
	}
	w.Flush()
	return out.String()
}

// megabytes writes a size as docker does, in units of 1,000,000 bytes.
func megabytes(n int64) string {
	if n == unknown {
		return "-"
	}
	return fmt.Sprintf("%.2f MB", float64(n)/1e6)
}

func exact(n int64) string { return strings.TrimPrefix(strconv.FormatInt(n, 10), "-1") }

func difference(a, b int64) string {
	if a == unknown || b == unknown {
		return "-"
	}
	return fmt.Sprintf("%+.2f MB (%+.1f %%)", float64(b-a)/1e6, 100*float64(b-a)/float64(max(a, 1)))
}
