package busybox

import (
	"errors"
	"os"
	"os/exec"
)

// Places in a step of the machine's git, of its loader, and of the libraries beside it.
const (
	GitPath    = LibexecPath + "-git"
	GitProgram = GitPath + "/git"
	GitLoader  = GitPath + "/loader"
)

// runMachineGit runs the git that is bound into this step. It reports false where none is.
func (c *call) runMachineGit() (code int, ok bool) {
	if _, err := os.Stat(c.system(GitProgram)); err != nil {
		return 0, false
	}
	args := append([]string{c.system(GitProgram)}, c.args[1:]...)
	if _, err := os.Stat(c.system(GitLoader)); err == nil {
		args = append([]string{c.system(GitLoader), "--library-path", c.system(GitPath)}, args...)
	}
	cmd := exec.CommandContext(c.ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.dir, c.stdin, c.raw, c.stderr
	// Its own commands are in itself: what it starts as git is found in PATH, and is this program again.
	cmd.Env = append(append([]string{}, c.env...), "GIT_EXEC_PATH="+GitPath+"/exec")
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), true
	}
	return c.fail(128, "%v", err), true
}
