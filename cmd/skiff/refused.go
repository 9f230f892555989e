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
	noCaches = "results are kept in the state by themselves; on CI, save and restore the folder of --root"
	koName   = "names are given whole: -t NAME[:TAG] of one image, -t PREFIX/[:TAG] of one of each program"
	noAttest = "attestations are not made; leave it out, or say false"
)

func refusedByBuild() []refusedFlag {
	return []refusedFlag{
		{name: "provenance", toggle: true, fine: []string{"false"}, mend: noAttest},
		{name: "sbom", toggle: true, fine: []string{"false", "none"}, mend: noAttest},
		{name: "attest", fine: []string{"type=provenance,disabled=true", "type=sbom,disabled=true"}, mend: noAttest},
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
		// ko's
		{name: "local", short: "L", toggle: true, fine: []string{"true", "false"}},
		{name: "bare", toggle: true, fine: []string{"false"}, mend: koName},
		{name: "base-import-paths", short: "B", toggle: true, fine: []string{"false"}, mend: koName},
		{name: "preserve-import-paths", short: "P", toggle: true, fine: []string{"false"}, mend: koName},
		{name: "tag-only", toggle: true, fine: []string{"false"}, mend: koName},
		{name: "image-label", mend: "say --label KEY=VALUE"},
		{name: "image-annotation", mend: "say --annotation KEY=VALUE"},
		{name: "image-user", mend: "say --user USER"},
		{name: "image-refs", mend: "say --metadata-file FILE, which has names and digests"},
		{name: "tarball", mend: "say -o type=docker,dest=FILE"},
		{name: "oci-layout-path", mend: "say -o type=oci,dest=FOLDER,tar=false"},
		{name: "disable-optimizations", toggle: true, fine: []string{"false"}, mend: "say --debug --gcflags 'all=-N -l'"},
		{name: "jobs", short: "j", mend: "say it to go: GOFLAGS=-p=N"},
		{name: "stream", toggle: true, fine: []string{"false"}, mend: "the context is read where it lies; leave it out"},
	}
}

// refusedByRun is the table of skiff run.
func refusedByRun() []refusedFlag {
	const fixed = "the sandbox is that of a build step, and fixed; leave it out"
	return []refusedFlag{
		{name: "publish-all", short: "P", toggle: true, fine: []string{"false"}, mend: "name the ports: -p 8080:80"},
		{name: "detach", short: "d", toggle: true, fine: []string{"false"}, mend: "there is no daemon to keep it: let the shell, skiff run … &, or systemd-run"},
		{name: "name", mend: "nothing of a run is kept that could be named; leave it out"},
		{name: "restart", fine: []string{"no"}, mend: "there is no daemon to start it again: systemd-run --user -p Restart=always skiff run …"},
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
