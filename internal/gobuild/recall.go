package gobuild

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/store"
)

// Kinds of records: what a build read, by what it was asked for; and programs, by all that went into them.
const (
	recordMemory  = store.KindGoMemory
	recordProgram = store.KindGoProgram
)

// memoryVersion and programVersion grow when what they stand for is made in another way.
const (
	memoryVersion  = 1
	programVersion = 2
)

type memoryRecord struct {
	Data []byte `json:"data"`
}

type programRecord struct {
	ImportPath string    `json:"importPath"`
	Size       int64     `json:"size"`
	Layer      v1.Hash   `json:"layer"`
	Bytes      int64     `json:"bytes"`
	Facts      []byte    `json:"facts,omitempty"`
	Module     Module    `json:"module"`
	Blobs      []v1.Hash `json:"blobs"`
}

// variables are those beside GO… and CGO_… that the go command looks at, or that decide where it looks for its settings.
var variables = []string{
	"CC", "CXX", "FC", "AR", "PKG_CONFIG", "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "home",
}

// recipe are labelled lines of what decides on the programs of a build beside the files that go reads.
func (b *build) recipe() []byte {
	out := fmt.Appendf(nil, "program %d\nplatform %s\nepoch %d\nkeep times %t\nbare %t\nfacts %q\n", programVersion, b.platform,
		b.o.epoch().Unix(), b.o.KeepTimes, b.o.Bare, b.o.Facts)
	return b.asked(out)
}

// key names the memory of a build.
func (b *build) key() store.Key {
	out := fmt.Appendf(nil, "memory %d\ndir %q\n", memoryVersion, b.dir)
	for _, p := range b.patterns {
		out = fmt.Appendf(out, "pattern %q\n", p)
	}
	return sha256.Sum256(b.asked(out))
}

// asked appends what the go command is told by options and environment.
func (b *build) asked(out []byte) []byte {
	if len(b.o.Flags) > 0 {
		out = fmt.Appendf(out, "flags %q\n", b.o.Flags)
	}
	out = fmt.Appendf(out, "go %q\nldflags %q\ngcflags %q\ntags %q\ndebug %t\nalign %t\nno inlining %t\n",
		b.golang, b.o.LDFlags, b.o.GCFlags, b.o.Tags, b.o.Debug, b.o.FuncAlign, b.o.NoInline)
	last := map[string]string{}
	for _, kv := range b.env {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "CGO_") || slices.Contains(variables, name) {
			last[name] = value
		}
	}
	var lines []string
	for name, value := range last {
		lines = append(lines, fmt.Sprintf("env %s %q\n", name, value))
	}
	slices.Sort(lines)
	return append(out, strings.Join(lines, "")...)
}

// recall is the memory of the last build, where all that go list said then still stands; nil where it does not.
func (b *build) recall(key store.Key) *memory {
	if b.o.Again || b.o.VCS {
		return nil
	}
	var rec memoryRecord
	if b.o.Store.Get(recordMemory, key, &rec) != nil {
		return nil
	}
	m, err := decodeMemory(rec.Data)
	if err != nil || !m.check() {
		return nil
	}
	b.flags, b.added = m.flags, m.env
	return m
}

// known is a program that was built before, and whose layer the store has.
func (b *build) known(key store.Key) (Program, bool) {
	var rec programRecord
	if b.o.Again || b.o.Store.Get(recordProgram, key, &rec) != nil {
		return Program{}, false
	}
	if n, err := b.o.Store.BlobSize(rec.Layer); err != nil || n != rec.Bytes {
		return Program{}, false
	}
	p := newProgram(rec.ImportPath)
	p.Size, p.Layer, p.Bytes, p.Facts, p.Module = rec.Size, rec.Layer, rec.Bytes, rec.Facts, rec.Module
	return p, true
}

func (b *build) keep(key store.Key, p Program) error {
	return b.o.Store.Put(recordProgram, key, programRecord{
		ImportPath: p.ImportPath, Size: p.Size, Layer: p.Layer, Bytes: p.Bytes, Facts: p.Facts, Module: p.Module, Blobs: []v1.Hash{p.Layer},
	})
}
