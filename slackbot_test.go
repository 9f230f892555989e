package skiff_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestSlackbotInItsImage builds the example and runs it in its image against the Slack and the registry of the example's own
// tests: a mention is answered, the file that comes along is right byte for byte, and nothing works without a CA.
func TestSlackbotInItsImage(t *testing.T) {
	skifftest.Long(t, "it compiles the example")
	c := newCLI(t)
	c.run("build", "-t", "slackbot:e2e", "examples/slackbot")
	size := regexp.MustCompile(`"Size": (\d+)`).FindStringSubmatch(c.run("inspect", "slackbot:e2e"))
	if size == nil {
		t.Fatal("inspect tells no size")
	}
	if n, err := strconv.Atoi(size[1]); err != nil || n > 6_810_000 {
		t.Errorf("the image has %s bytes, more than 6,810,000", size[1])
	}

	ca := filepath.Join(t.TempDir(), "ca.pem")
	command, err := json.Marshal([]string{c.bin, "run", "--network=host", "-v", ca + ":/ca.pem:ro",
		"-e", "SLACK_BOT_TOKEN", "-e", "SLACK_APP_TOKEN", "-e", "SLACK_API_URL", "-e", "SSL_CERT_FILE", "slackbot:e2e"})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-run", "^TestProgram$", ".")
	cmd.Dir = "examples/slackbot"
	cmd.Env = append(c.env, "GOWORK=off", "SLACKBOT_TEST_COMMAND="+string(command), "SLACKBOT_TEST_CA="+ca)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(ca); err != nil {
		t.Error("the CA was not asked for:", err)
	}
}
