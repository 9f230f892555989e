package doctor

import (
	"fmt"

	"github.com/skiff-build/skiff/internal/rootfiles"
)

// user reports a program that runs as the superuser, and a user that is not known.
func (e *examination) user() {
	if e.account.uid < 0 {
		e.find(Finding{
			ID: IDUsers, Severity: Error, Path: rootfiles.PasswdPath, Source: e.last("USER"),
			Message:  fmt.Sprintf("the image's user is %s, which its /etc/passwd does not have: it does not start", e.userName()),
			Evidence: []string{"names of users are looked up in the image, numbers need no entry"},
			Remedy:   []string{fmt.Sprintf("USER %d:%d", rootfiles.NonRoot, rootfiles.NonRoot), copyFrom("", "/etc/passwd /etc/group", "/etc/")},
		})
	}
	if len(e.entry.args) == 0 || !e.account.superuser() {
		return
	}
	f := Finding{
		ID: IDRoot, Severity: Warning, Message: "the program runs as root",
		Remedy: []string{fmt.Sprintf("USER %d:%d", rootfiles.NonRoot, rootfiles.NonRoot)},
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
