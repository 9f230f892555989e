package engine

import (
	"github.com/skiff-build/skiff/internal/fileop"
	"github.com/skiff-build/skiff/internal/localdir"
)

// Methods of the child, see handlers_linux.go.
const (
	methodUnpack  = "engine.unpack"
	methodFile    = "engine.file"
	methodExec    = "engine.exec"
	methodDigest  = "engine.digest"
	methodPack    = "engine.pack"
	methodRead    = "engine.read"
	methodStat    = "engine.stat"
	methodList    = "engine.list"
	methodCache   = "engine.cache"
	methodConfine = "engine.confine"
	methodInputs  = "engine.inputs"
	methodShare   = "engine.share"
	methodRemove  = "engine.remove"
	methodVerify  = "engine.verify"
	methodArchive = "engine.archive"
	methodEnd     = "engine.end"
)

// treeReq is files to read: a chain of layers, or a local directory.
type treeReq struct {
	Chain []string
	Local *localdir.Selection
	Only  []string // of the local directory: these files, and the directories that hold them; nil: what it selects
}

// unpackReq makes a layer from a tar: the blob at Path, else the descriptor that comes with the call.
type unpackReq struct {
	Path  string
	Chain []string // what lies below
	ID    string
	// DiffID, when known, is what the uncompressed tar has to be.
	DiffID string
}

type unpackResp struct {
	DiffID string
	Size   int64 // bytes of the uncompressed tar
	Files  int64 // bytes of its regular files
}

type fileReq struct {
	Inputs  []treeReq
	Actions [][]byte // pb.FileAction
	Outputs int

	// Over is the layer that the one action made earlier on the same input, with another content of its source: the new layer
	// completes that one. Gone are the files that the source has no more, relative to what is copied.
	Over string
	Gone []string
}

type fileResp struct {
	Outputs []fileOutput
	Refused bool // a layer over Over cannot be made; nothing was done
}

// fileOutput stands on an input (-1: on nothing) and adds layers; "" is one that holds nothing.
type fileOutput struct {
	Input  int
	Layers []string
}

type digestReq struct {
	Chain    []string
	Selector fileop.Selector
}

// packReq packs a layer into the descriptor that comes with the call; pieces (pieces.go), if it completes another one.
type packReq struct {
	ID        string
	Over      bool
	Epoch     int64
	KeepTimes bool
}

type packResp struct {
	DiffID      string // not of pieces, nor Size
	Size, Files int64
}

// readReq reads a file, or says what it is, or lists a directory. Symlinks are followed within the files.
type readReq struct {
	Chain          []string
	Path           string
	Offset, Length int    // of read; a Length of 0 is all
	Pattern        string // of list
}

// statResp has the fields of fsutil's types.Stat that we fill.
type statResp struct {
	Path     string
	Mode     uint32
	UID, GID uint32
	Size     int64
	ModTime  int64
	Linkname string
	Major    int64
	Minor    int64
}

type removeReq struct{ Paths []string }
