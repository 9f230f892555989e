package skiff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/gobuild"
)

// SizeChoice is a way to make programs smaller, and what it came to.
type SizeChoice struct {
	Name    string
	Flags   string // of go build; "" for the usual ones
	Bytes   int64  // of all programs together, built so; -1: this toolchain does not have it
	Applied bool   // to the images
	Price   string
}

// choice is a [SizeChoice] with what it changes. Each is measured on top of those that are applied before it.
type choice struct {
	SizeChoice
	set func(*gobuild.Options)
}

// sizeChoices are those of --optimize=size. What would change how a program behaves is measured and offered, never applied: that a
// program never profits from HTTP/2 cannot be read off its code.
func sizeChoices() []choice {
	return []choice{
		{SizeChoice{Name: "functions not aligned", Flags: "-ldflags=-funcalign=1", Applied: true, Price: "some loops run slower by a few per cent"},
			func(o *gobuild.Options) { o.FuncAlign = true }},
		{SizeChoice{Name: "no inlining", Flags: "-gcflags=all=-l", Applied: true, Price: "more calls: code that computes is slower, by a tenth or more"},
			func(o *gobuild.Options) { o.NoInline = true }},
		{SizeChoice{Name: "no HTTP/2", Flags: "-tags=nethttpomithttp2",
			Price: "net/http speaks HTTP/1.1 alone, as a client and as a server: --tags nethttpomithttp2 if that is enough"},
			func(o *gobuild.Options) { o.Tags = strings.Trim(o.Tags+",nethttpomithttp2", ",") }},
	}
}

// optimize builds the programs in each way and returns those of all that are applied.
func (b *goBuild) optimize(ctx context.Context, o gobuild.Options) ([]gobuild.Result, error) {
	best, err := gobuild.Build(ctx, o)
	if err != nil {
		return nil, err
	}
	b.choices = []SizeChoice{{Name: "as usual", Bytes: programBytes(best), Applied: true}}
	for _, c := range sizeChoices() {
		with := o
		c.set(&with)
		if with.Tags != o.Tags && hasTag(o.Tags, "nethttpomithttp2") {
			continue // the user has decided
		}
		res, err := gobuild.Build(ctx, with)
		var failed *gobuild.ExitError
		switch {
		case errors.As(err, &failed) && strings.Contains(string(failed.Output), "flag provided but not defined"):
			c.Bytes, c.Applied = -1, false
		case err != nil:
			return nil, fmt.Errorf("%s: %w", c.Flags, err)
		default:
			c.Bytes = programBytes(res)
			if last := programBytes(best); c.Bytes >= last {
				c.Applied = false
			}
		}
		if c.Applied {
			best, o = res, with
		}
		b.choices = append(b.choices, c.SizeChoice)
	}
	return best, nil
}

func hasTag(tags, tag string) bool {
	return slices.Contains(strings.FieldsFunc(tags, func(r rune) bool { return r == ',' || r == ' ' }), tag)
}

func programBytes(results []gobuild.Result) (n int64) {
	for _, r := range results {
		for _, p := range r.Programs {
			n += p.Size
		}
	}
	return n
}
