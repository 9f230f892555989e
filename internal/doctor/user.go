package doctor

import (
	"fmt"
	"strings"

	"github.com/skiff-build/skiff/internal/rootfiles"
)

// numeric is a user that every image has.
var numeric = fmt.Sprintf("USER %d:%d", rootfiles.NonRoot, rootfiles.NonRoot)

// user reports a program that runs as the superuser, and a user that is not known.
func (e *examination) user() {
	a := e.view.account
	if a.unread != "" {
		e.undecided("%s is larger than %s: who the image's user is was not looked up in it", a.unread, human(maxRead))
	}
	if a.broken != "" {
		e.find(Finding{
			ID: IDUsers, Severity: Error, Path: rootfiles.PasswdPath, Source: e.last("USER"),
			Message:  fmt.Sprintf("the image's user, %s, cannot be looked up: it does not start", e.userName()),
			Evidence: []string{a.broken},
			Remedy:   []string{"a USER that is a number below 2147483648, and files with a line for each user and group in " + rootfiles.PasswdPath + " and " + rootfiles.GroupPath},
		})
	}
	switch a.unknown {
	case "user":
		name, _, _ := strings.Cut(e.userName(), ":")
		e.find(Finding{
			ID: IDUsers, Severity: Error, Path: rootfiles.PasswdPath, Source: e.last("USER"),
			Message:  fmt.Sprintf("the image's user is %s, which its /etc/passwd does not have: it does not start", name),
			Evidence: []string{"names of users are looked up in the image, numbers need no entry"},
			Remedy:   []string{numeric},
		})
	case "group":
		_, name, _ := strings.Cut(e.userName(), ":")
		e.find(Finding{
			ID: IDUsers, Severity: Error, Path: rootfiles.GroupPath, Source: e.last("USER"),
			Message:  fmt.Sprintf("the group of the image's user is %s, which its /etc/group does not have: it does not start", name),
			Evidence: []string{"names of groups are looked up in the image, numbers need no entry"},
			Remedy:   []string{fmt.Sprintf("USER %d:%d", a.uid, a.gid)},
		})
	}
	if len(e.starts) == 0 || !a.superuser() {
		return
	}
	f := Finding{
		ID: IDRoot, Severity: Warning, Message: "the program runs as root",
		Remedy: []string{numeric},
	}
	if f.Source = e.last("USER"); f.Source != nil {
		f.Evidence = []string{"USER is " + e.userName()}
	} else if f.Source = e.last("FROM"); f.Source != nil {
		f.Evidence = []string{"no USER follows"}
	}
	// A shell or another program of a distribution is for a person to use; whether it can do without root is not known.
	if len(e.programs) == 0 || e.rank(e.programs[0]) != 0 {
		f.Severity = Info
	}
	e.find(f)
}
