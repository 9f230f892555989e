package dockerfile

import (
	"fmt"
	"strings"
	"testing"
)

func TestStages(t *testing.T) {
	const text = `ARG V=1
FROM golang:$V AS builder
RUN go build \
    -o /app .

FROM scratch
# the program
COPY --from=builder --chmod=755 /app /other /bin/
ADD ["a b", "/c/"]
USER 65532
`
	stages, target, err := Stages([]byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, "target", target)
	for _, s := range stages {
		fmt.Fprintf(&b, "%q %s\n", s.Name, s.Base)
		for _, i := range append([]Instruction{s.From}, s.Instructions...) {
			fmt.Fprintf(&b, "%d %s %q from %q %q to %q\n", i.Line, i.Name, i.Text, i.From, i.Sources, i.Dest)
		}
	}
	want := `target 1
"builder" golang:$V
2 FROM "FROM golang:$V AS builder" from "" [] to ""
3 RUN "RUN go build -o /app ." from "" [] to ""
"" scratch
6 FROM "FROM scratch" from "" [] to ""
8 COPY "COPY --from=builder --chmod=755 /app /other /bin/" from "builder" ["/app" "/other"] to "/bin/"
9 ADD "ADD [\"a b\", \"/c/\"]" from "" ["a b"] to "/c/"
10 USER "USER 65532" from "" [] to ""
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if _, target, _ := Stages([]byte(text), "BUILDER"); target != 0 {
		t.Errorf("target %d", target)
	}
	if _, _, err := Stages([]byte("NONSENSE\n"), ""); err == nil {
		t.Error("no Dockerfile, and no error")
	}
}

// TestStagesWithChecks: comments that configure the linter are comments.
func TestStagesWithChecks(t *testing.T) {
	text := "# check=error=true\nFROM scratch as x\n# check=skip=MaintainerDeprecated\nMAINTAINER me\n"
	stages, _, err := Stages([]byte(text), "")
	if err != nil || len(stages) != 1 || len(stages[0].Instructions) != 1 {
		t.Errorf("%+v, %v", stages, err)
	}
}
