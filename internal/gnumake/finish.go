package gnumake

import (
	"slices"
	"strings"
)

// finishReading does what the special targets say, and makes pattern rules of suffix rules.
func (k *maker) finishReading() {
	k.loc = nil
	if v := k.global.vars["MAKEFLAGS"]; !k.newer() && v.loc != nil && (v.origin == fromFile || v.origin == fromOverride) {
		k.flagsAssigned(v)
	}
	if k.opts.noVariables {
		for _, line := range strings.Split(strings.TrimSpace(defaultVariables), "\n") {
			name, _, _ := strings.Cut(line, " =")
			if v := k.global.vars[name]; v != nil && v.origin == fromDefault {
				delete(k.global.vars, name)
			}
		}
	}
	if k.opts.noRules {
		if v := k.global.vars["SUFFIXES"]; v.origin == fromDefault {
			v.value = ""
		}
		own := k.files[".SUFFIXES"]
		own.deps = slices.DeleteFunc(own.deps, func(d *dep) bool { return d.builtin })
	}
	for _, f := range append([]*file{}, k.order...) {
		// In 4.4 only what is considered is expanded, and what the special targets need.
		if k.newer() && !strings.HasPrefix(f.name, ".") {
			continue
		}
		k.secondExpansion(f)
		for _, d := range f.doubles {
			k.secondExpansion(d)
		}
	}
	each := func(name string, do func(f *file)) bool {
		f := k.files[name]
		if f == nil || !f.isTarget {
			return false
		}
		for _, d := range f.deps {
			do(d.file)
			for _, x := range d.file.doubles {
				do(x)
			}
		}
		return len(f.deps) == 0
	}
	k.allPrecious = each(".PRECIOUS", func(f *file) { f.precious = true })
	each(".PHONY", func(f *file) { f.phony, f.isTarget, f.time = true, true, missing })
	each(".INTERMEDIATE", func(f *file) { f.intermediate = true })
	k.allSecond = each(".SECONDARY", func(f *file) { f.intermediate, f.secondary = true, true })
	if k.newer() {
		k.allLasting = each(".NOTINTERMEDIATE", func(f *file) {
			if f.intermediate {
				k.unserved(nil, "%s is of .NOTINTERMEDIATE and of .INTERMEDIATE or .SECONDARY", f.name)
			}
			f.lasting = true
			if _, _, _, ok := percent(f.name); ok {
				k.lasting = append(k.lasting, f.name)
			}
		})
		if k.allLasting && k.allSecond {
			k.unserved(nil, ".NOTINTERMEDIATE and .SECONDARY are for all files")
		}
	}
	k.allIgnore = each(".IGNORE", func(f *file) { f.ignores = true })
	k.allSilent = each(".SILENT", func(f *file) { f.quiet = true })
	if f := k.files[".EXPORT_ALL_VARIABLES"]; f != nil && f.isTarget {
		k.exports = true
	}
	if f := k.files[".DELETE_ON_ERROR"]; f != nil && f.isTarget {
		k.deleteOnErr = true
	}
	k.suffixRules()
	k.defineFlags(true)
	for _, name := range k.opts.old {
		k.enter(cleanName(name)).updated = true
		k.enter(cleanName(name)).time = oldest
	}
	for _, name := range k.opts.fresh {
		k.enter(cleanName(name)).time = newest
	}
}

// secondExpansion expands prerequisites that were to be expanded when the rest of the Makefile is known.
func (k *maker) secondExpansion(f *file) {
	for i := 0; i < len(f.deps); i++ {
		d := f.deps[i]
		if !d.second {
			continue
		}
		stem := d.static
		var list []*dep
		k.within(k.fileScope(f), func() {
			in := k.scope.set
			k.autoVars(in, f, stem, f.deps[:i])
			list = k.depList(k.expand(d.name))
		})
		f.deps = append(f.deps[:i:i], append(list, f.deps[i+1:]...)...)
		i += len(list) - 1
	}
}
