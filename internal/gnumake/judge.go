package gnumake

import "strings"

// Unknown stands in a text, while a [Judge] looks, for what is known only when make runs.
const Unknown = "\ufdd0?\ufdd1"

// Judge makes a run find out what make may call, without calling anything.
type Judge struct {
	// Shell hears of what $(shell …) would run, and gives its output, which may be [Unknown].
	Shell func(j *Job) string
	// Choose says how a condition over something unknown comes out. Whoever wants all ways runs again with other answers.
	Choose func() bool
	// Refuse hears why what make does cannot be known.
	Refuse func(where Location, why string)
}

func (j *Judge) unknown(s string) bool { return j != nil && strings.Contains(s, Unknown) }

func (j *Judge) choose() bool { return j.Choose() }

func (j *Judge) refuse(k *maker, why string) {
	at := Location{}
	if k.loc != nil {
		at = *k.loc
	}
	j.Refuse(at, why)
}

func (j *Judge) shell(k *maker, text string) string {
	argv, isShell := k.argv(trimBlanks(text), k.expandVar("SHELL"), k.expandVar(".SHELLFLAGS"))
	k.set(k.global, ".SHELLSTATUS", Unknown, false, fromOverride)
	if len(argv) == 0 {
		return ""
	}
	env := k.Env
	if k.newer() {
		env = k.shellEnv()
	}
	job := &Job{Argv: argv, Shell: isShell, Text: text, Output: true, Env: env, Dir: k.cwd}
	if k.loc != nil {
		job.Where = *k.loc
	}
	return j.Shell(job)
}
