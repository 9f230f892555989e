package busybox

import (
	"fmt"
	"strings"
)

// Variant is the distribution that an official golang image is made from, as far as a build can tell.
type Variant string

// The variants that the base imitates: names of users, environment and which commands come with the image.
const (
	Alpine Variant = "alpine"
	Debian Variant = "debian"
)

// Lacks reports whether the variant does not have a command of the base.
func (v Variant) Lacks(name string) bool {
	switch name {
	case "apk", "ash", "time":
		return v != Alpine
	case "apt", "apt-get", "useradd", "groupadd", "usermod", "dash":
		return v == Alpine
	}
	return false
}

// File is a file of the root of an image; its owner is root.
type File struct {
	Name string // below the root: etc/passwd
	Mode int64  // permission bits
	GID  int
	Data []byte
}

func text(name, content string) File { return File{Name: name, Mode: 0o644, Data: []byte(content)} }

// Accounts are the files of /etc that name the users, the groups and the system, as the image of the variant has them.
func (v Variant) Accounts() []File {
	shadowed := func(name, content string) File {
		return File{Name: name, Mode: 0o640, GID: 42, Data: []byte(content)}
	}
	if v == Alpine {
		return []File{
			text("etc/passwd", alpinePasswd), text("etc/group", alpineGroup), shadowed("etc/shadow", alpineShadow),
			text("etc/nsswitch.conf", alpineNSSwitch), text("etc/shells", "# valid login shells\n/bin/sh\n/bin/ash\n"),
			text("etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nPRETTY_NAME=\"Alpine Linux (skiff's built-in Go base)\"\n"),
		}
	}
	var shadow, gshadow strings.Builder
	for line := range strings.Lines(debianPasswd) {
		name, _, _ := strings.Cut(line, ":")
		fmt.Fprintf(&shadow, "%s:*:19700:0:99999:7:::\n", name)
	}
	for line := range strings.Lines(debianGroup) {
		name, _, _ := strings.Cut(line, ":")
		fmt.Fprintf(&gshadow, "%s:*::\n", name)
	}
	return []File{
		text("etc/passwd", debianPasswd), text("etc/group", debianGroup),
		shadowed("etc/shadow", shadow.String()), shadowed("etc/gshadow", gshadow.String()),
		text("etc/nsswitch.conf", debianNSSwitch),
		text("etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux (skiff's built-in Go base)\"\nNAME=\"Debian GNU/Linux\"\nID=debian\n"),
	}
}
