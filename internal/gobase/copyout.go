package gobase

import (
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/graph"
)

// dataFiles are the files of the image's root that the base has as well, for a later stage to copy.
var dataFiles = []string{
	"/etc/ssl", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/nsswitch.conf", "/etc/hosts", "/usr/share/zoneinfo", "/tmp", "/root",
	"/home", "/go", "/usr/local/go", "/var/tmp", "/etc/shells",
}

// systemFolders hold what the image brings along; all else a step must have made.
var systemFolders = []string{"/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc", "/var", "/opt", "/srv", "/boot", "/media", "/mnt", "/run"}

// rootNames are what the root of an image holds.
var rootNames = []string{
	"bin", "sbin", "lib", "lib64", "usr", "etc", "var", "opt", "srv", "boot", "media", "mnt", "run", "root", "home", "tmp", "dev",
	"proc", "sys", "go",
}

// copyOut judges a copy of p out of a tree: what the image has and the base has not is refused.
func (j *judge) copyOut(v *graph.Vertex, t *tree, p string) {
	p = path.Join("/", p)
	if at := strings.IndexAny(p, "*?["); at >= 0 {
		top, _, _ := strings.Cut(p[1:], "/")
		if strings.ContainsAny(top, "*?[") && !slices.ContainsFunc(rootNames, func(name string) bool { ok, _ := path.Match(top, name); return ok }) {
			return // matches nothing that an image has
		}
		if slices.ContainsFunc(t.written, func(w string) bool { return strings.HasPrefix(w, p[:at]) }) && p[at-1] != '/' {
			return // COPY --from=builder /usr/bin/app* with an app that a step wrote
		}
		p = path.Dir(p[:at] + "x")
	}
	if p == "/" {
		t.base.refuse(&Refusal{Where: where(v), Why: "the whole root of the stage is copied"})
		return
	}
	t.base.crossCopy(&Refusal{Where: where(v)}, p)
	in := func(list []string) bool {
		return slices.ContainsFunc(list, func(dir string) bool { _, ok := below(p, dir); return ok })
	}
	if in(dataFiles) || in(t.written) || in(t.built) || !in(systemFolders) {
		return
	}
	// A folder such as /usr/local/bin that steps wrote into: what the image had there is nothing.
	if p == "/usr/local/bin" || strings.HasPrefix(p, "/usr/local/bin/") && len(t.installed) > 0 {
		return
	}
	t.base.refuse(&Refusal{Where: where(v), Why: p + " of the image is copied from the stage"})
}
