package sandbox

import "runtime"

// Limits are what a step, all of its processes together, may take. A field's zero value is no limit, but for Pids.
type Limits struct {
	Memory     int64  // bytes
	MemorySwap int64  // bytes of memory and swap; 0: twice Memory, -1: no limit (docker's --memory-swap)
	CPUShares  uint64 // weight against others, 1024 the usual
	CPUPeriod  uint64 // microseconds; 0: 100,000
	CPUQuota   int64  // microseconds of CPU time in each period
	CPUs, Mems string // those that may be used: "0-2,7"
	Pids       int64  // processes and threads; 0: [DefaultPids], -1: no limit
}

// DefaultPids is how many processes and threads a step may have: far more than a build has, even where each CPU gets a compiler of
// many threads, and few enough for the machine to live on.
func DefaultPids() int64 { return 4096 + 512*int64(runtime.NumCPU()) }

func (l Limits) pids() int64 {
	if l.Pids == 0 {
		return DefaultPids()
	}
	return l.Pids
}
