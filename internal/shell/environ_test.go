package shell

import (
	"os"
	"testing"
)

// TestEnvironment holds that a command gets the variables in the order of the real shells, in which env prints them. Bash's is not ours.
func TestEnvironment(t *testing.T) {
	for _, v := range []Variant{Dash, Ash} {
		o, live := findOracle(v)
		switch {
		case !live && os.Getenv("CI") != "":
			t.Fatalf("%s is not installed", v)
		case !live:
			t.Skipf("%s is not installed", v)
		}
		for _, script := range []string{
			"export GOOS=linux GOARCH=amd64 CGO_ENABLED=0 GOPROXY=off GOFLAGS=-mod=mod GOPATH=/go; env | grep -v '^PWD=\\|^OLDPWD=\\|^_='",
			"b=1 a=2 x=3 env | grep '^[abx]='; x=1; export b=1 x a=2; env | grep '^[abx]='",
			// More than the table has places, so that some share one.
			"i=0; while [ $i -lt 50 ]; do i=$((i+1)); export V$i=$i W_$i=$i; done; unset V7; export V7=x; V5=y; env | grep '^[VW]'",
			"echo ${SHLVL:-none}; sh -c 'echo ${SHLVL:-none}'; (echo ${SHLVL:-none})",
		} {
			want := o.run(t, script)
			got, refused := ours(t, o, script)
			if refused != nil || !same(got, want) {
				t.Errorf("%s: %q (refused: %v)\n real %s\n ours %s", v, script, refused, show(want), show(got))
			}
		}
	}
}
