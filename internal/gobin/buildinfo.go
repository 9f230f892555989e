package gobin

import (
	"bytes"
	"encoding/binary"
	"runtime/debug"
)

// maxInfo bounds the text of the module list: some 100 bytes a module.
const maxInfo = 4 << 20

// readBuildInfo reads what the go command left in the file: debug/buildinfo's format of Go 1.18 and later. debug/buildinfo
// itself goes through debug/elf.
func readBuildInfo(img *image) (version string, info *debug.BuildInfo) {
	const (
		align  = 16
		header = 32
		magic  = "\xff Go buildinf:"
	)
	var blob []byte
	if s, ok := img.sectionNamed(".go.buildinfo"); ok {
		blob, _ = img.bytesAt(s.off, min(s.size, maxInfo))
	} else { // no section headers: it is at the start of the first writable segment
		for _, s := range img.segments {
			if s.write {
				blob, _ = img.bytesAt(s.off, min(s.size, 1<<20))
				break
			}
		}
	}
	for {
		i := bytes.Index(blob, []byte(magic))
		if i < 0 || len(blob)-i < header {
			return "", nil
		}
		blob = blob[i:]
		if i%align == 0 {
			break
		}
		blob = blob[1:]
	}
	if blob[15]&2 == 0 { // pointers, as before Go 1.18
		return "", nil
	}
	text := func(b []byte) (string, []byte) {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return "", nil
		}
		return string(b[used : used+int(n)]), b[used+int(n):]
	}
	version, rest := text(blob[header:])
	mod, _ := text(rest)
	// Sixteen bytes on either side mark the module list for tools that search.
	if len(mod) < 33 || mod[len(mod)-17] != '\n' {
		return version, nil
	}
	info, err := debug.ParseBuildInfo(mod[16 : len(mod)-16])
	if err != nil {
		return version, nil
	}
	info.GoVersion = version
	return version, info
}
