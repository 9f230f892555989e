package doctor

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"path"
	"slices"
	"sync"

	"github.com/skiff-build/skiff/internal/rootfiles"
)

// note is what a look at a file's content told, taken while its layer was read.
type note struct {
	kind    kind
	elf     elfHead
	shebang string // of a script: the line after #!
	secret  string // what it looks like, "" for nothing; never the secret itself
	ca      bool   // it holds a certificate, as crypto/x509 reads bundles
	text    []byte // of the small files that are read whole: passwd, group
}

type kind byte

const (
	kindOther kind = iota
	kindEmpty
	kindELF
	kindScript
	kindMachO
	kindPE
)

// elfHead is what the first bytes of an ELF file say.
type elfHead struct {
	Machine    elf.Machine
	Executable bool // a program or a shared object: it can be started
}

// Bounds of what is read of a file while its layer is: the head tells what it is; text files up to maxText are searched for
// secrets, which are short and stand in small files.
const (
	headBytes = 512
	maxText   = 1 << 20
)

// texts are buffers for what is read of one file.
var texts = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// look examines one file of a layer, whose name has the form of [bounds.Name].
func look(h *tar.Header, content io.Reader) (note, error) {
	buf := texts.Get().(*bytes.Buffer)
	defer texts.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(io.LimitReader(content, headBytes)); err != nil {
		return note{}, err
	}
	head := buf.Bytes()
	out := note{kind: kindOf(head)}
	switch out.kind {
	case kindELF:
		out.elf = elfHeadOf(head)
		return out, nil
	case kindScript:
		line, _, _ := bytes.Cut(head[2:], []byte("\n"))
		out.shebang = string(line)
	case kindMachO, kindPE, kindEmpty:
		return out, nil
	}
	name := "/" + h.Name
	if h.Size > maxText || !searched(name, head) && !maybeCA(name, head) {
		return out, nil
	}
	if _, err := buf.ReadFrom(io.LimitReader(content, maxText)); err != nil {
		return note{}, err
	}
	out.secret = secretIn(name, buf.Bytes())
	out.ca = bytes.Contains(buf.Bytes(), []byte("-----BEGIN CERTIFICATE-----")) && holdsCertificate(buf.Bytes())
	if name == rootfiles.PasswdPath || name == rootfiles.GroupPath {
		out.text = bytes.Clone(buf.Bytes())
	}
	return out, nil
}

// maybeCA says that a file is read for certificates: where secrets are not looked for, those that packages bring along are.
func maybeCA(name string, head []byte) bool {
	return bytes.HasPrefix(head, []byte("-----BEGIN ")) || slices.Contains([]string{".pem", ".crt", ".cer", ".cert"}, path.Ext(name))
}

func kindOf(head []byte) kind {
	has := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case len(head) == 0:
		return kindEmpty
	case has("\x7fELF"):
		return kindELF
	case has("#!"):
		return kindScript
	case has("MZ"):
		return kindPE
	case has("\xcf\xfa\xed\xfe"), has("\xce\xfa\xed\xfe"), has("\xca\xfe\xba\xbe\x00\x00\x00\x02"):
		return kindMachO
	}
	return kindOther
}

// elfHeadOf reads the fields that lie in the first 20 bytes (elf(5)).
func elfHeadOf(head []byte) elfHead {
	if len(head) < 20 {
		return elfHead{}
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	t := elf.Type(order.Uint16(head[16:]))
	return elfHead{Machine: elf.Machine(order.Uint16(head[18:])), Executable: t == elf.ET_EXEC || t == elf.ET_DYN}
}
