package gobase

import (
	"io"
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/busybox"
	"github.com/skiff-build/skiff/internal/rootfiles"
)

// root describes the small files of a base, all but /usr/local/go.
type root struct {
	variant Variant
	release string   // the Go that lies beside
	arch    string   // a GOARCH
	with    []string // as in [Identity]
	zones   []byte   // lib/time/zoneinfo.zip of the toolchain; nil: no time zones
}

// writeTar writes the layer: sorted by name, all times the same.
func (r root) writeTar(w io.Writer) error {
	entries, err := r.entries()
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	out := newLayerWriter(w)
	for _, e := range entries {
		out.parents(e.name, ".")
		switch {
		case e.dir:
			out.owned(e.name, e.mode, e.gid)
		case e.link != "":
			out.link(e.name, e.link)
		default:
			if err := out.ownedFile(e.name, e.mode, e.gid, e.data); err != nil {
				return err
			}
		}
	}
	return out.Close()
}

// entry is one file of the root; mode bits only, all owned by user 0.
type entry struct {
	name string
	mode int64
	gid  int
	dir  bool
	link string
	data []byte
}

func folder(name string, mode int64) entry { return entry{name: name, mode: mode, dir: true} }

func text(name, content string) entry {
	return entry{name: name, mode: 0o644, data: []byte(content)}
}

func (r root) entries() ([]entry, error) {
	all := r.folders()
	all = append(all, r.accounts()...)
	all = append(all, r.commands()...)
	all = append(all,
		entry{name: strings.TrimPrefix(LibexecPath, "/"), mode: 0o755}, // a step has this program bound here,
		entry{name: strings.TrimPrefix(bundlePath, "/"), mode: 0o644},  // and the machine's CAs,
		folder(strings.TrimPrefix(proxyPath, "/"), 0o755),              // and its folder of modules
		entry{name: strings.TrimPrefix(rootfiles.BundlePath, "/"), mode: 0o644, data: rootfiles.CABundle()},
		text("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n"),
		entry{name: "etc/mtab", link: "/proc/mounts"},
		entry{name: "var/run", link: "/run"},
	)
	all = append(all, libcPlaces(r.release, r.arch)...)
	if slices.Contains(r.with, machineGit) {
		all = append(all, folder(strings.TrimPrefix(busybox.GitPath, "/"), 0o755))
	}
	if version := makeIn(r.with); version != "" {
		all = append(all, text(strings.TrimPrefix(busybox.MakeVersionPath, "/"), version+"\n"))
	}
	zones, err := zoneEntries(r.zones)
	return append(all, zones...), err
}

func (r root) folders() []entry {
	all := []entry{
		folder("dev", 0o755), folder("proc", 0o555), folder("sys", 0o555), folder("run", 0o755),
		folder("tmp", 0o1777), folder("var/tmp", 0o1777), folder("var/cache", 0o755), folder("var/lib", 0o755),
		folder("root", 0o700), folder("home", 0o755), folder("mnt", 0o755), folder("opt", 0o755), folder("srv", 0o755),
		folder("usr/local/bin", 0o755), folder("usr/local/sbin", 0o755), folder("usr/local/lib", 0o755),
		folder("usr/share", 0o755), folder("etc/ssl/certs", 0o755), folder("usr/local/share/ca-certificates", 0o755),
		folder("usr/bin", 0o755), folder("usr/sbin", 0o755), folder("usr/lib", 0o755),
	}
	// The official Dockerfile: mkdir -p "$GOPATH/src" "$GOPATH/bin" && chmod -R 1777 "$GOPATH".
	all = append(all, folder("go", 0o1777), folder("go/bin", 0o1777), folder("go/src", 0o1777))
	if r.variant == Alpine {
		return append(all, folder("bin", 0o755), folder("sbin", 0o755), folder("lib", 0o755), folder("var/empty", 0o555),
			entry{name: "etc/ssl/cert.pem", link: "certs/ca-certificates.crt"},
			entry{name: "etc/ssl1.1/cert.pem", link: "/etc/ssl/cert.pem"},
			entry{name: "etc/ssl1.1/certs", link: "/etc/ssl/certs"})
	}
	return append(all,
		entry{name: "bin", link: "usr/bin"}, entry{name: "sbin", link: "usr/sbin"}, entry{name: "lib", link: "usr/lib"},
		folder("var/lib/apt/lists", 0o755), folder("var/mail", 0o2775))
}

// accounts are the files that name the users and the system of the image.
func (r root) accounts() []entry {
	var all []entry
	for _, f := range r.variant.Accounts() {
		all = append(all, entry{name: f.Name, mode: f.Mode, gid: f.GID, data: f.Data})
	}
	return all
}

// commands are symlinks to this program, in the folders where the image has them.
func (r root) commands() []entry {
	var all []entry
	add := func(dir, name string) {
		all = append(all, entry{name: path.Join(dir, name), link: LibexecPath})
	}
	for _, name := range busybox.CommandNames() {
		if name == "bash" && r.variant == Alpine && !slices.Contains(r.with, name) {
			continue
		}
		if name == "git" && !r.hasGit() || name == "make" && makeIn(r.with) == "" || r.variant.Lacks(name) || busybox.IsCompiler(name) && !slices.Contains(r.with, withCompilers) {
			continue
		}
		dir := "usr/bin"
		if superuser[name] {
			dir = "usr/sbin"
		}
		add(dir, name)
		if r.variant == Alpine { // where BusyBox has it differs by command: scripts that name /bin/x find it
			add(strings.TrimPrefix(dir, "usr/"), name)
		}
	}
	return all
}

// hasGit reports whether the base has a git, the small one that knows no repository or the machine's.
func (r root) hasGit() bool {
	return slices.Contains(r.with, "git") || slices.Contains(r.with, machineGit)
}

var (
	superuser = map[string]bool{
		"adduser": true, "addgroup": true, "deluser": true, "delgroup": true, "useradd": true, "groupadd": true,
		"usermod": true, "update-ca-certificates": true,
	}
)

// zoneEntries unpacks Go's own zone file to where Go and C look for it.
func zoneEntries(data []byte) ([]entry, error) {
	if data == nil {
		return nil, nil
	}
	zones, err := rootfiles.UnpackZones(data)
	var all []entry
	for _, z := range zones {
		all = append(all, entry{name: path.Join(strings.TrimPrefix(rootfiles.ZonesPath, "/"), z.Name), mode: 0o644, data: z.Data})
	}
	return all, err
}
