package skifftest

import (
	"os/exec"
	"testing"
)

func TestProcessesAreFoundByTheirMark(t *testing.T) {
	t.Setenv(marker, "here")
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if found := Processes(marker + "=here"); len(found) != 1 {
		t.Errorf("while it runs: %q", found)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if found := Processes(marker + "=here"); len(found) != 0 {
		t.Errorf("afterwards: %q", found)
	}
}
