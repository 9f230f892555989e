package sandbox

import (
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// nativeArchs are the architectures that programs of this machine may use, as moby's profile lists them (less x32,
// see abis); empty where no table of calls is at hand.
var nativeArchs = map[string][]specs.Arch{
	"amd64": {specs.ArchX86_64, specs.ArchX86},
	"386":   {specs.ArchX86},
	"arm64": {specs.ArchAARCH64, specs.ArchARM},
	"arm":   {specs.ArchARM},
}[runtime.GOARCH]
