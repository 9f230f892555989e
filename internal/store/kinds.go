package store

import "fmt"

// Kind says what a record is about, and so which type its value has. A kind belongs to one package alone: two that shared one would
// read each other's records. All are listed here, which a test holds; [Store.Put] refuses any other.
type Kind string

// The kinds, by the package that writes them.
const (
	KindResult   Kind = "result"   // engine: what a vertex gave
	KindBase     Kind = "base"     // engine: a layer that came with an image
	KindPack     Kind = "pack"     // engine: the tar of a layer
	KindDigest   Kind = "digest"   // engine: the digest of files of a chain
	KindTarIndex Kind = "tarindex" // engine: where the files of a tar are
	KindCopied   Kind = "copied"   // engine: what a large copy was made of
	KindMode     Kind = "mode"     // engine: the sandbox's mode on this machine
	KindExplain  Kind = "explain"  // engine: what a step was when it ran last
	KindInputs   Kind = "inputs"   // engine: what a step read when it ran last

	KindLocalDir Kind = "localdir" // localdir: digests of the files of a build context
	KindFolder   Kind = "folder"   // localdir: digests of selections of one

	KindHTTP Kind = "http" // source: what lies at a URL

	KindTag        Kind = "tag"        // image: what a registry said that a tag means
	KindCompressed Kind = "blob"       // image: the compressed form of a tar
	KindChunks     Kind = "chunks"     // image: compressed chunks that other layers can share
	KindLayerSize  Kind = "layersize"  // image: bytes of the files of a layer
	KindOrigin     Kind = "origin"     // image: where an image was pulled from or pushed to
	KindBlobOrigin Kind = "bloborigin" // image: which repositories have a blob

	KindGoMemory  Kind = "gomemory"  // gobuild: what go list said
	KindGoProgram Kind = "goprogram" // gobuild: the layer of a program
	KindGoFiles   Kind = "gofiles"   // gobuild: the layer of files beside a program

	KindGoGeneration Kind = "gogeneration" // goaware: which module cache is the current one

	KindGoDigest    Kind = "godigest"      // gobase: the tag of an image that was named by its digest
	KindGoModule    Kind = "gomod"         // gobase: what a proxy and the checksum database say of a module
	KindGoFilled    Kind = "gocachefilled" // gobase: when the user's cache was read last
	KindGoOther     Kind = "othergo"       // gobase: that a user was told of two releases of Go
	KindGoProved    Kind = "goproved"      // gobase: a toolchain's layer that the checksum database has proved
	KindGoRoot      Kind = "goroot"        // gobase: a toolchain of this machine that was proved
	KindGoRelease   Kind = "gorelease"     // gobase: the release that a tag of golang means
	KindGoToolchain Kind = "gotoolchain"   // gobase: the blobs of a toolchain
	KindGoNewer     Kind = "gonewer"       // gobase: stages in which a tag's own Go has failed

	KindReport     Kind = "doctor"     // skiff: the report on an image
	KindDockerfile Kind = "dockerfile" // skiff: which Dockerfile an image was built from
	KindNotes      Kind = "notes"      // skiff: what the doctor saw in a layer
	KindSupplied   Kind = "gosupply"   // skiff: what a program was supplied with

	kindStates Kind = "hashstates" // store: see resume.go
	kindSpare  Kind = "spare"      // store: see names.go
)

// kinds is all of them. The compiler refuses a key that comes twice.
var kinds = map[Kind]bool{
	KindResult: true, KindBase: true, KindPack: true, KindDigest: true, KindTarIndex: true, KindCopied: true, KindMode: true, KindExplain: true, KindInputs: true,
	KindLocalDir: true, KindFolder: true,
	KindHTTP: true,
	KindTag:  true, KindCompressed: true, KindChunks: true, KindLayerSize: true, KindOrigin: true, KindBlobOrigin: true,
	KindGoMemory: true, KindGoProgram: true, KindGoFiles: true, KindGoGeneration: true,
	KindGoDigest: true, KindGoModule: true, KindGoFilled: true, KindGoOther: true, KindGoProved: true, KindGoRoot: true, KindGoRelease: true, KindGoToolchain: true, KindGoNewer: true,
	KindReport: true, KindDockerfile: true, KindNotes: true, KindSupplied: true,
	kindStates: true, kindSpare: true,
}

func checkKind(k Kind) error {
	if !kinds[k] {
		return fmt.Errorf("record kind %q is not in the list of package store", k)
	}
	return nil
}
