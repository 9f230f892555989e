package main

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/skiff-build/skiff"
)

// compressionFlags say how layers are compressed when they leave.
type compressionFlags struct {
	text  string
	level int
}

func (c *compressionFlags) define(flags *pflag.FlagSet, usage string) {
	flags.StringVar(&c.text, "compression", "", usage)
	flags.IntVar(&c.level, "compression-level", 0, "`LEVEL` of the compression: gzip 1 to 9, zstd 1 to 22 (0 is its default)")
}

// parse reads KIND and KIND:LEVEL. The kind is "" where no flag was given.
func (c *compressionFlags) parse() (out skiff.Compression, err error) {
	kind, level, colon := strings.Cut(c.text, ":")
	out = skiff.Compression{Kind: kind, Level: c.level}
	if colon {
		n, err := strconv.Atoi(level)
		if err != nil || n < 1 {
			return out, badFlag("compression", c.text, "the level is a number")
		}
		if c.level != 0 && c.level != n {
			return out, badFlag("compression", c.text, "--compression-level names another level: leave one of the two out")
		}
		out.Level = n
	}
	if kind == "" && out.Level != 0 {
		out.Kind = "gzip"
	}
	most, known := map[string]int{"": 9, "gzip": 9, "zstd": 22, "uncompressed": 0}[kind]
	switch {
	case !known:
		return out, badFlag("compression", c.text, "choose gzip, zstd or uncompressed")
	case out.Level < 0 || out.Level > most:
		return out, badFlag("compression-level", strconv.Itoa(out.Level), "gzip takes 1 to 9, zstd 1 to 22")
	}
	return out, nil
}
