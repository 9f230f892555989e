package main

import (
	"strings"

	"github.com/spf13/pflag"
)

// refusedFlags are flags of docker build and docker run that ask either for what skiff does anyway, which is fine, or for what it does not
// do, which is an error with the way out, never ignored.
type refusedFlags struct {
	rows []refusedFlag
}

// refusedFlag is one of them. A flag that takes no value is a switch.
type refusedFlag struct {
	name, short string
	toggle      bool
	fine        []string // values that ask for what is done anyway
	mend        string
	value       *listValue
}

const (
	noLimit  = "there is no control group for it alone; put the limit on the whole command: systemd-run --user --scope -p MemoryMax=2G -p CPUQuota=200% skiff build …"
	noCaches = "results are kept in the state by themselves; on CI, save and restore the folder of --root"
	noAttest = "attestations are not made; leave it out, or say false"
)

func refusedByBuild() []refusedFlag {
	return []refusedFlag{
		{name: "provenance", toggle: true, fine: []string{"false"}, mend: noAttest},
		{name: "sbom", toggle: true, fine: []string{"false"}, mend: noAttest},
		{name: "attest", fine: []string{"type=provenance,disabled=true", "type=sbom,disabled=true"}, mend: noAttest},
		{name: "memory", short: "m", mend: noLimit},
		{name: "memory-swap", mend: noLimit},
		{name: "cpu-shares", short: "c", mend: noLimit},
		{name: "cpu-period", mend: noLimit},
		{name: "cpu-quota", mend: noLimit},
		{name: "cpuset-cpus", mend: "a step has no control group of its own; pin the whole build: taskset -c CPUS skiff build …"},
		{name: "cpuset-mems", mend: "a step has no control group of its own; bind the whole build: numactl -m NODES skiff build …"},
		{name: "cgroup-parent", mend: "steps stay in skiff's own control group; start it in that one: systemd-run --user --slice=NAME skiff build …"},
		{name: "isolation", fine: []string{"default", ""}, mend: "there is one way to run steps; leave it out"},
		{name: "security-opt", mend: "the sandbox is fixed; for one step: RUN --security=insecure and --allow security.insecure"},
		{name: "device", mend: "devices are not given to steps"},
		{name: "squash", toggle: true, fine: []string{"false"}, mend: "end with a stage of its own: FROM scratch and COPY --from=BUILDER / /"},
		{name: "compress", toggle: true, fine: []string{"false"}, mend: "the context is read where it lies, nothing is sent; leave it out"},
		{name: "rm", toggle: true, fine: []string{"true"}, mend: "there are no intermediate containers to keep; leave it out"},
		{name: "force-rm", toggle: true, fine: []string{"true", "false"}},
		{name: "disable-content-trust", toggle: true, fine: []string{"true"}, mend: "signatures are not checked; name the base by its digest: FROM NAME@sha256:…"},
		{name: "cache-from", mend: noCaches},
		{name: "cache-to", mend: noCaches},
		{name: "builder", fine: []string{"", "default"}, mend: "skiff builds in this process; leave it out"},
		{name: "stream", toggle: true, fine: []string{"false"}, mend: "the context is read where it lies; leave it out"},
	}
}

// refusedByRun is the table of skiff run.
func refusedByRun() []refusedFlag {
	const fixed = "the sandbox is that of a build step, and fixed; leave it out"
	return []refusedFlag{
		{name: "publish", short: "p", mend: "the program has the host's network: what it listens on is there already; leave it out"},
		{name: "publish-all", short: "P", toggle: true, fine: []string{"false"}, mend: "the program has the host's network: what it listens on is there already; leave it out"},
		{name: "detach", short: "d", toggle: true, fine: []string{"false"}, mend: "there is no daemon to keep it: let the shell, skiff run … &, or systemd-run"},
		{name: "name", mend: "nothing of a run is kept that could be named; leave it out"},
		{name: "restart", fine: []string{"no"}, mend: "there is no daemon to start it again: systemd-run --user -p Restart=always skiff run …"},
		{name: "memory", short: "m", mend: strings.Replace(noLimit, "skiff build", "skiff run", 1)},
		{name: "cpus", mend: strings.Replace(noLimit, "skiff build", "skiff run", 1)},
		{name: "privileged", toggle: true, fine: []string{"false"}, mend: fixed},
		{name: "cap-add", mend: fixed},
		{name: "cap-drop", mend: fixed},
		{name: "security-opt", mend: fixed},
	}
}

func (r *refusedFlags) define(flags *pflag.FlagSet, rows []refusedFlag) {
	r.rows = rows
	for i := range r.rows {
		row := &r.rows[i]
		row.value = &listValue{}
		f := flags.VarPF(row.value, row.name, row.short, "")
		f.Hidden = true
		if row.toggle {
			f.NoOptDefVal = "true"
		}
	}
}

func (r *refusedFlags) check() error {
	for _, row := range r.rows {
		for _, v := range row.value.values {
			if !row.allows(v) {
				return &usageError{text: "--" + row.name + " " + v + ": not built", hints: []string{row.mend}}
			}
		}
	}
	return nil
}

func (row *refusedFlag) allows(v string) bool {
	if row.toggle {
		switch strings.ToLower(v) {
		case "1", "t":
			v = "true"
		case "0", "f":
			v = "false"
		}
	}
	for _, f := range row.fine {
		if f == strings.ToLower(v) {
			return true
		}
	}
	return false
}

// listValue collects the values of a flag as they were given.
type listValue struct{ values []string }

func (l *listValue) String() string     { return strings.Join(l.values, " ") }
func (l *listValue) Set(v string) error { l.values = append(l.values, v); return nil }
func (l *listValue) Type() string       { return "string" }
