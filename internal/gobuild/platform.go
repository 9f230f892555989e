package gobuild

import (
	"fmt"
	"strings"
)

// Platform is what a program is built for, in the words of image configs.
type Platform struct{ OS, Arch, Variant string }

func (p Platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Arch+"/"+p.Variant, "/")
}

// env is the platform in the go command's words. A variant that it has no word for is an error.
func (p Platform) env() ([]string, error) {
	if p.OS != "linux" {
		return nil, fmt.Errorf("platform %s: images of Go packages are for linux", p)
	}
	env := []string{"GOOS=" + p.OS, "GOARCH=" + p.Arch}
	level := strings.TrimPrefix(p.Variant, "v")
	switch {
	case p.Variant == "":
	case p.Arch == "arm" && (level == "5" || level == "6" || level == "7"):
		env = append(env, "GOARM="+level)
	case p.Arch == "amd64" && len(level) == 1 && level >= "1" && level <= "4":
		env = append(env, "GOAMD64=v"+level)
	case p.Arch == "arm64" && level == "8":
	default:
		return nil, fmt.Errorf("platform %s: go knows no variant %s of %s", p, p.Variant, p.Arch)
	}
	return env, nil
}
