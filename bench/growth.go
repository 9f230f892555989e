package main

import (
	"fmt"
	"io"
	"math"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// series is the same work in several sizes, done by skiff alone.
type series struct {
	name, title, unit string
	sizes             []int
	row               func(n int) row
}

func archive(b *bench, p place) *exec.Cmd {
	return skiffDockerfile("-o", "type=oci,dest="+filepath.Join(p.state, "out.tar"))(b, p)
}

const copyAll = "FROM scratch\nCOPY . /src\n"

var seriesFiles = []int{1_000, 10_000, 100_000}

var growthSeries = []series{
	{"files-unchanged", "everything copied, nothing changed", "files", seriesFiles, func(n int) row {
		return row{project: tree(n, 1000, copyAll), tools: map[string]command{"skiff": skiffDockerfile()}}
	}},
	{"files-changed", "everything copied, one file changed, archive written", "files", seriesFiles, func(n int) row {
		return row{project: tree(n, 1000, copyAll), change: editTree(n), tools: map[string]command{"skiff": archive}}
	}},
	{"stages-unchanged", "stages that copy from each other, nothing changed", "stages", []int{1, 10, 100}, func(n int) row {
		return row{project: chain(n), tools: map[string]command{"skiff": skiffDockerfile()}}
	}},
	{"stages-changed", "stages that copy from each other, the file changed", "stages", []int{1, 10, 100}, func(n int) row {
		return row{project: chain(n), change: editTree(1), tools: map[string]command{"skiff": skiffDockerfile()}}
	}},
	{"packages-unchanged", "main packages without Dockerfile, nothing changed", "packages", []int{1, 10, 100}, func(n int) row {
		return row{project: mains(n), tools: map[string]command{"skiff": skiffPackages("./cmd/...")}}
	}},
	{"packages-one", "main packages without Dockerfile, one changed", "packages", []int{1, 10, 100}, func(n int) row {
		return row{project: mains(n), change: editMain, tools: map[string]command{"skiff": skiffPackages("./cmd/...")}}
	}},
	{"layer-unchanged", "one file copied, nothing changed", "MB", []int{10, 100, 1000}, func(n int) row {
		return row{project: tree(1, n*1_000_000, copyAll), tools: map[string]command{"skiff": skiffDockerfile()}}
	}},
	{"layer-changed", "one file copied, its first line changed, archive written", "MB", []int{10, 100, 1000}, func(n int) row {
		return row{project: tree(1, n*1_000_000, copyAll), change: editTree(1), tools: map[string]command{"skiff": archive}}
	}},
}

// chain is a Dockerfile of n stages beside a small file.
func chain(n int) *project {
	var text strings.Builder
	fmt.Fprintf(&text, "FROM scratch AS s0\nCOPY %s /f\n", treeFile(0))
	for i := 1; i < n; i++ {
		fmt.Fprintf(&text, "FROM scratch AS s%d\nCOPY --from=s%d /f /f\n", i, i-1)
	}
	return tree(1, 1000, text.String())
}

// growth measures the series that match and writes them with their exponents: 1 is in proportion to the size, 0 is
// independent of it.
func (b *bench) growth(w io.Writer, match *regexp.Regexp, most float64) error {
	b.tools = []string{"skiff"}
	fmt.Fprintf(w, "| series | work | size | seconds | memory | exponent of time | of memory |\n|%s\n", strings.Repeat(" --- |", 7))
	for _, s := range growthSeries {
		if !match.MatchString(s.name) {
			continue
		}
		var sizes, times, memory []float64
		for _, n := range s.sizes {
			if float64(n) > most*float64(s.sizes[len(s.sizes)-1]) {
				continue
			}
			r := s.row(n)
			r.name = fmt.Sprintf("%s %d", s.name, n)
			got, err := b.measure(r)
			if err != nil {
				return fmt.Errorf("series %s, %d %s: %w", s.name, n, s.unit, err)
			}
			f, ok := got["skiff"]
			if !ok {
				break
			}
			sizes, times, memory = append(sizes, float64(n)), append(times, f.median()), append(memory, f.memory)
		}
		for i := range sizes {
			head, tail := "| | |", " | |"
			if i == 0 {
				head = fmt.Sprintf("| %s | %s |", s.name, s.title)
			}
			if i == len(sizes)-1 && i > 0 {
				tail = fmt.Sprintf(" %.2f | %.2f |", exponent(sizes, times), exponent(sizes, memory))
			}
			fmt.Fprintf(w, "%s %.0f %s | %s | %.0f MB |%s\n", head, sizes[i], s.unit, seconds(times[i]), memory[i]/1e6, tail)
		}
	}
	return nil
}

// exponent is the slope of the line through the logarithms, by least squares.
func exponent(x, y []float64) float64 {
	var sx, sy, sxx, sxy float64
	for i := range x {
		lx, ly := math.Log(x[i]), math.Log(y[i])
		sx, sy, sxx, sxy = sx+lx, sy+ly, sxx+lx*lx, sxy+lx*ly
	}
	n := float64(len(x))
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}
