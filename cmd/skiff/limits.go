package main

import (
	"math"
	"strconv"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/skiff-build/skiff"
)

// limitFlags are docker's flags for what a step, or a program, may take.
type limitFlags struct {
	memory, swap, cpus, pids string
	limits                   skiff.Limits
}

// define adds what docker build and docker run have alike; run has more.
func (l *limitFlags) define(f *pflag.FlagSet, what string) {
	f.StringVarP(&l.memory, "memory", "m", "", "`SIZE` of memory "+what+" may use")
	f.StringVar(&l.swap, "memory-swap", "", "`SIZE` of memory and swap together (twice the memory); -1 is no limit")
	f.Uint64VarP(&l.limits.CPUShares, "cpu-shares", "c", 0, "`WEIGHT` against others that want the CPUs (1024)")
	f.Uint64Var(&l.limits.CPUPeriod, "cpu-period", 0, "`MICROSECONDS` of a period of --cpu-quota (100000)")
	f.Int64Var(&l.limits.CPUQuota, "cpu-quota", 0, "`MICROSECONDS` of CPU time in each period")
	f.StringVar(&l.limits.CPUs, "cpuset-cpus", "", "`CPUS` to run on: 0-2,7")
	f.StringVar(&l.limits.Mems, "cpuset-mems", "", "`NODES` to have memory of")
}

func (l *limitFlags) defineRun(f *pflag.FlagSet) {
	l.define(f, "the program")
	f.StringVar(&l.cpus, "cpus", "", "`NUMBER` of CPUs' time to use: 1.5")
	f.StringVar(&l.pids, "pids-limit", "", "`NUMBER` of processes and threads (4096 and 512 for each CPU); -1 is no limit")
}

// read returns what the flags say.
func (l *limitFlags) read() (skiff.Limits, error) {
	for _, s := range []struct {
		flag, text string
		to         *int64
	}{{"memory", l.memory, &l.limits.Memory}, {"memory-swap", l.swap, &l.limits.MemorySwap}} {
		if s.text == "" || s.flag == "memory-swap" && s.text == "-1" {
			continue
		}
		n, err := units.RAMInBytes(s.text)
		if err != nil || n <= 0 {
			return l.limits, badFlag(s.flag, s.text, "want a size such as 512m or 2g")
		}
		*s.to = n
	}
	if l.swap == "-1" {
		l.limits.MemorySwap = -1
	}
	switch {
	case l.swap != "" && l.memory == "":
		return l.limits, badFlag("memory-swap", l.swap, "give --memory as well")
	case l.limits.MemorySwap > 0 && l.limits.MemorySwap < l.limits.Memory:
		return l.limits, badFlag("memory-swap", l.swap, "it counts memory and swap together, and is less than --memory")
	case l.limits.Memory > 0 && l.limits.Memory < 6<<20:
		return l.limits, badFlag("memory", l.memory, "want 6m at least")
	}
	if l.cpus != "" {
		n, err := strconv.ParseFloat(l.cpus, 64)
		switch {
		case err != nil || n <= 0 || n > 4096 || math.IsNaN(n):
			return l.limits, badFlag("cpus", l.cpus, "want a number of CPUs such as 1.5")
		case l.limits.CPUQuota != 0 || l.limits.CPUPeriod != 0:
			return l.limits, badFlag("cpus", l.cpus, "leave out either it, or --cpu-quota and --cpu-period")
		}
		l.limits.CPUQuota = int64(n * 100_000)
	}
	if l.pids != "" {
		n, err := strconv.ParseInt(l.pids, 10, 64)
		if err != nil || n < -1 {
			return l.limits, badFlag("pids-limit", l.pids, "want a number of processes, or -1")
		}
		l.limits.Pids = max(n, -1)
	}
	return l.limits, nil
}
