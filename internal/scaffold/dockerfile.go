package scaffold

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Extra are instructions that a program's stage gets, with the reason for them.
type Extra struct {
	Why  string // a sentence
	Text string // one instruction, or several with a line each
}

// Stage is the name of the stage that ships a program. Where there is one program, its stage is the last and has no name: "".
func (p *Project) Stage(i int) string {
	if len(p.Programs) == 1 {
		return ""
	}
	return stageName(p.Programs[i].Name)
}

func stageName(program string) string {
	name := notInStage.ReplaceAllString(strings.ToLower(program), "-")
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = "app-" + name
	}
	return name
}

var notInStage = regexp.MustCompile(`[^a-z0-9-_.]`)

// builder is the name of the stage that compiles.
func (p *Project) builder() string {
	if slices.ContainsFunc(p.Programs, func(g Program) bool { return len(p.Programs) > 1 && stageName(g.Name) == "build" }) {
		return "go-build"
	}
	return "build"
}

// taken are folders in the root of an image.
var taken = []string{"bin", "dev", "etc", "home", "lib", "proc", "root", "run", "sys", "tmp", "usr", "var"}

// Path is where a program lies in its image.
func (g Program) Path() string {
	if slices.Contains(taken, g.Name) {
		return "/usr/local/bin/" + g.Name
	}
	return "/" + g.Name
}

// Cgo says that one of the programs needs a C compiler.
func (p *Project) Cgo() bool {
	return slices.ContainsFunc(p.Programs, func(g Program) bool { return g.Cgo })
}

// Dockerfile is the text of the Dockerfile; extras are those of each program, as far as they are known.
func (p *Project) Dockerfile(extras [][]Extra) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	image := "golang:" + p.GoVersion + "-alpine"
	if p.Cgo() {
		line("FROM %s AS %s", image, p.builder())
		line("# cgo needs a C compiler. musl, Alpine's C library, can be linked statically.")
		line("RUN apk add --no-cache build-base")
	} else {
		line("# The compiler runs on the machine's own platform, and compiles for the image's.")
		line("FROM --platform=$BUILDPLATFORM %s AS %s", image, p.builder())
	}
	line("\nWORKDIR /src")
	if p.Downloads {
		sum := ""
		if p.HasSum {
			sum = " go.sum"
		}
		line("# The modules come first: they are fetched again only where these files change.")
		line("COPY go.mod%s ./", sum)
		line("RUN go mod download")
	}
	line("COPY . .")
	var packages []string
	for _, g := range p.Programs {
		packages = append(packages, g.Package)
	}
	if p.Cgo() {
		line(`RUN CGO_ENABLED=1 go build -trimpath -ldflags '-s -w -extldflags "-static"' -o /out/ %s`, strings.Join(packages, " "))
	} else {
		line("ARG TARGETOS TARGETARCH")
		line("RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags '-s -w' -o /out/ %s", strings.Join(packages, " "))
	}
	for i, g := range p.Programs {
		line("")
		if stage := p.Stage(i); stage != "" {
			line("FROM scratch AS %s", stage)
		} else {
			line("FROM scratch")
		}
		if i < len(extras) {
			for _, e := range extras[i] {
				line("# %s", e.Why)
				line("%s", e.Text)
			}
		}
		line("COPY --from=%s /out/%s %s", p.builder(), g.Name, g.Path())
		line("USER 65532:65532")
		if len(g.Ports) > 0 {
			line("EXPOSE %s", strings.Join(g.Ports, " "))
		}
		line("ENTRYPOINT [\"%s\"]", g.Path())
	}
	return b.String()
}
