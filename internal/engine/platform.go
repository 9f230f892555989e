package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// buildPlatform is what steps run on without help: Linux, wherever skiff itself runs.
func buildPlatform(p *ocispecs.Platform) ocispecs.Platform {
	if p != nil {
		return platforms.Normalize(*p)
	}
	d := platforms.DefaultSpec()
	d.OS, d.OSVersion, d.OSFeatures = "linux", "", nil
	return platforms.Normalize(d)
}

// platformOf is the platform of an operation; where it names none, the build's.
func (e *Engine) platformOf(p *pb.Platform) ocispecs.Platform {
	if p == nil || p.OS == "" {
		return e.platform
	}
	return platforms.Normalize(ocispecs.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures})
}

// binfmtDir is where the kernel lists the interpreters of foreign programs (admin-guide/binfmt-misc.rst).
const binfmtDir = "/proc/sys/fs/binfmt_misc"

// canRun tells why steps for p cannot run here; nil: they can.
func (e *Engine) canRun(p ocispecs.Platform) error {
	if p.OS != "linux" {
		return fmt.Errorf("steps for %s cannot run on Linux", platforms.Format(p))
	}
	if platforms.Only(buildPlatform(nil)).Match(p) || e.platform.Architecture == p.Architecture && p.Architecture == runtime.GOARCH {
		return nil
	}
	if interpreted(binfmtDir, p.Architecture) {
		return nil
	}
	return fmt.Errorf("this machine (%s) cannot run programs for %s: no interpreter is registered with the flag F in %s; "+
		"to cross-compile, start the stage with FROM --platform=$BUILDPLATFORM", platforms.Format(e.platform), platforms.Format(p), binfmtDir)
}

// elfMachines are the e_machine numbers of ELF (elf.h) by GOARCH, with the class (1: 32 bits) and the byte order
// (1: little endian) that the architecture has.
var elfMachines = map[string]struct {
	machine      uint16
	class, order byte
}{
	"386": {3, 1, 1}, "amd64": {62, 2, 1}, "arm": {40, 1, 1}, "arm64": {183, 2, 1}, "loong64": {258, 2, 1},
	"mips64le": {8, 2, 1}, "mips64": {8, 2, 2}, "ppc64le": {21, 2, 1}, "riscv64": {243, 2, 1}, "s390x": {22, 2, 2},
}

// interpreted tells whether an entry of dir takes ELF programs of the architecture, with flag F: only then does the
// kernel hold the interpreter open, and a root without one can use it.
func interpreted(dir, arch string) bool {
	m, ok := elfMachines[arch]
	if !ok {
		return false
	}
	header := make([]byte, 64)
	copy(header, "\x7fELF")
	header[4], header[5], header[6] = m.class, m.order, 1
	header[16], header[18], header[19] = 2, byte(m.machine), byte(m.machine>>8) // ET_EXEC
	if m.order == 2 {
		header[16], header[17], header[18], header[19] = 0, 2, header[19], header[18]
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && takes(string(text), header) {
			return true
		}
	}
	return false
}

// takes reads one entry, as the kernel prints it.
func takes(entry string, header []byte) bool {
	fields := map[string]string{}
	for line := range strings.Lines(entry) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		fields[strings.TrimSuffix(name, ":")] = value
	}
	if _, on := fields["enabled"]; !on || !strings.Contains(fields["flags"], "F") || fields["magic"] == "" {
		return false
	}
	offset, _ := strconv.Atoi(fields["offset"])
	magic, mask := unhex(fields["magic"]), unhex(fields["mask"])
	for i, b := range magic {
		at, want := offset+i, byte(0xff)
		if i < len(mask) {
			want = mask[i]
		}
		if at < 0 || at >= len(header) || header[at]&want != b&want {
			return false
		}
	}
	return true
}

func unhex(s string) []byte {
	var out []byte
	for i := 0; i+2 <= len(s); i += 2 {
		b, err := strconv.ParseUint(s[i:i+2], 16, 8)
		if err != nil {
			return nil
		}
		out = append(out, byte(b))
	}
	return out
}
