package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures are what one tool needed for one row.
type figures struct {
	seconds []float64 // of each run
	memory  float64   // bytes, of skiff alone; 0: not measured
}

func (f figures) median() float64 {
	if len(f.seconds) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(f.seconds))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// table measures the rows that match and writes them.
func (b *bench) table(w io.Writer, match *regexp.Regexp) error {
	fmt.Fprintf(w, "%s, %d processors, seconds, median of %d runs.\n\n", runtime.GOOS+"/"+runtime.GOARCH, runtime.NumCPU(), b.runs)
	fmt.Fprintf(w, "| row | work | %s | skiff's memory | skiff ÷ | mark |\n|%s\n", strings.Join(b.tools, " | "), strings.Repeat(" --- |", len(b.tools)+5))
	for _, r := range rows {
		if !match.MatchString(r.name) || b.ctx.Err() != nil {
			continue
		}
		got, err := b.measure(r)
		if err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
		fmt.Fprintln(w, b.line(r, got))
	}
	return b.ctx.Err()
}

func (b *bench) line(r row, got map[string]figures) string {
	cells := []string{r.name, r.title}
	for _, tool := range b.tools {
		cell := ""
		if f, ok := got[tool]; ok {
			cell = seconds(f.median())
		}
		cells = append(cells, cell)
	}
	memory, ratio := "", ""
	if f, ok := got["skiff"]; ok {
		memory = fmt.Sprintf("%.0f MB", f.memory/1e6)
		if of, ok := got[r.of]; ok {
			ratio = fmt.Sprintf("%.2f × %s", f.median()/of.median(), r.of)
		}
	}
	return "| " + strings.Join(append(cells, memory, ratio, r.mark), " | ") + " |"
}

func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.3f", s)
	}
	return fmt.Sprintf("%.1f", s)
}

// measure has the tools take turns. A tool that cannot do the row is left out, and the reason told.
func (b *bench) measure(r row) (map[string]figures, error) {
	got := map[string]figures{}
	places := map[string]place{}
	for _, tool := range b.tools {
		do := r.tools[tool]
		if do == nil {
			continue
		}
		p, err := b.prepare(r.project, tool)
		if err != nil {
			return nil, err
		}
		if err := b.warm(r, tool, p); err != nil {
			fmt.Fprintf(b.log, "%s: %s is left out: %v\n", r.name, tool, err)
			continue
		}
		places[tool], got[tool] = p, figures{}
	}
	for i := range b.runs {
		for _, tool := range b.tools {
			p, ok := places[tool]
			if !ok {
				continue
			}
			if err := b.before(r, tool, p, i+1); err != nil {
				return nil, err
			}
			took, err := timed(r.tools[tool](b, p))
			if err != nil {
				return nil, err
			}
			f := got[tool]
			f.seconds = append(f.seconds, took.Seconds())
			got[tool] = f
		}
	}
	if p, ok := places["skiff"]; ok {
		if err := b.before(r, "skiff", p, b.runs+1); err != nil {
			return nil, err
		}
		f, err := got["skiff"], error(nil)
		if f.memory, err = b.peak(r.tools["skiff"](b, p)); err != nil {
			return nil, err
		}
		got["skiff"] = f
	}
	for _, tool := range b.tools {
		if f, ok := got[tool]; ok {
			fmt.Fprintf(b.log, "%-18s %-9s %7.3f s %v\n", r.name, tool, f.median(), f.seconds)
		}
	}
	return got, b.ctx.Err()
}

// warm builds once, so that a tool has what it keeps between builds.
func (b *bench) warm(r row, tool string, p place) error {
	if r.cold {
		return nil
	}
	return quiet(r.tools[tool](b, p))
}

func timed(cmd *exec.Cmd) (time.Duration, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(said.String(), 20))
	}
	return took, nil
}

// peak runs skiff and returns the high-water mark, in bytes, of the largest of its processes that are skiff itself. Where
// the system has no /proc it is that of the process alone.
func (b *bench) peak(cmd *exec.Cmd) (float64, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done, most := make(chan error, 1), 0.0
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				return 0, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(said.String(), 20))
			}
			return most, nil
		case <-time.After(5 * time.Millisecond):
			most = max(most, b.peakOf(cmd.Process.Pid))
		}
	}
}

// peakOf is the largest mark in a tree of processes. The init of a step may run skiff from a file in memory.
func (b *bench) peakOf(pid int) float64 {
	most := 0.0
	proc := fmt.Sprintf("/proc/%d", pid)
	exe, err := os.Readlink(proc + "/exe")
	if err == nil && (strings.Contains(exe, "memfd:") || sameFile(proc+"/exe", b.skiff)) {
		most = highWater(proc + "/status")
	}
	lists, _ := filepath.Glob(proc + "/task/*/children")
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		for _, child := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				most = max(most, b.peakOf(n))
			}
		}
	}
	return most
}

// sameFile: names do not tell, since a step's init reaches the file by a mount that nobody else sees.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func highWater(status string) float64 {
	text, _ := os.ReadFile(status)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			n, _ := strconv.ParseFloat(f[1], 64)
			return n * 1024
		}
	}
	return 0
}
