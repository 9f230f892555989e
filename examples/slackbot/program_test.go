package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestProgram drives the program from outside: this binary as slackbot, or what SLACKBOT_TEST_COMMAND (a JSON list) starts
// with the arguments added, say an image. The command passes SLACK_BOT_TOKEN, SLACK_APP_TOKEN, SLACK_API_URL and
// SSL_CERT_FILE on, has SLACKBOT_TEST_CA, a file that is made here, as /ca.pem, and reaches this machine's loopback.
func TestProgram(t *testing.T) {
	command, ca := []string{os.Args[0]}, os.Getenv("SSL_CERT_FILE")
	if text := os.Getenv("SLACKBOT_TEST_COMMAND"); text != "" {
		if err := json.Unmarshal([]byte(text), &command); err != nil {
			t.Fatal(err)
		}
		ca = "/ca.pem"
	}
	f, r := newFakeSlack(t), newFakeRegistry(t, plain)
	start := func(ca string, args ...string) (*exec.Cmd, *output) {
		cmd := exec.Command(command[0], append(command[1:len(command):len(command)], args...)...)
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, "SSL_CERT_") && !strings.HasPrefix(v, "SLACK") {
				cmd.Env = append(cmd.Env, v)
			}
		}
		cmd.Env = append(cmd.Env, "SLACKBOT_TEST_MAIN=1", "SLACK_BOT_TOKEN="+botToken, "SLACK_APP_TOKEN="+appToken, "SLACK_API_URL="+f.URL+"/api/")
		if ca != "" {
			cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+ca)
		}
		var out output
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
		return cmd, &out
	}

	// Without this server's CA nothing is said over TLS, which shows that what follows stands on it.
	cmd, out := start("")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "SSL_CERT_FILE names another file of CAs") || len(f.called(openMethod)) > 0 {
		t.Fatalf("without the CA: %v: %s", err, out)
	}

	cmd, out = start(ca)
	conn := next(t, f.sockets, "connection")
	layer, _ := layerOf(100_000, true)
	r.push("1", "linux/amd64", layer)
	name := r.host + "/team/app:1"
	f.send(t, conn, "e1", "Ev1", mention("<@UBOT> size "+name))
	next(t, f.acks, "ack")
	seen, err := config{}.image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	want := describe([]*image{seen})
	if got := next(t, f.posts, "answer").Get("text"); got != want.text {
		t.Errorf("answer: %s", got)
	}
	if file := next(t, f.files, "file"); !bytes.Equal(file.data, want.data) || file.thread != "1.0" {
		t.Errorf("file: %s", file.data)
	}
	health, said := start(ca, "health")
	if err := health.Wait(); err != nil {
		t.Errorf("health: %v: %s", err, said)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("after SIGTERM: %v: %s", err, out)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("still there 20 s after SIGTERM: %s", out)
	}
}
