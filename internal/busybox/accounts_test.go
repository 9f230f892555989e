package busybox

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// newLines runs a script and returns what it added to an account file, with today's number as TODAY.
func newLines(t *testing.T, root, file string, before []byte) string {
	t.Helper()
	after, err := os.ReadFile(filepath.Join(root, "etc", file))
	if err != nil {
		t.Fatal(err)
	}
	var added []string
	for line := range strings.Lines(string(after)) {
		if !strings.Contains(string(before), line) {
			added = append(added, strings.TrimSpace(line))
		}
	}
	today := strconv.FormatInt(time.Now().Unix()/86400, 10)
	return strings.ReplaceAll(strings.Join(added, "|"), today, "TODAY")
}

// TestAccounts compares with what the originals write: BusyBox 1.36.1 in an Alpine 3.20 root, Debian 12's adduser
// and useradd. Changing owners needs root, so homes are made in TestHome alone.
func TestAccounts(t *testing.T) {
	const dated = "!:TODAY:0:99999:7:::"
	tests := []struct {
		variant               Variant
		script                string
		passwd, group, shadow string
		code                  int
	}{
		{Alpine, "adduser -D -H -g '' appuser", "appuser:x:1000:1000::/home/appuser:/bin/sh", "appuser:x:1000:", "appuser:" + dated, 0},
		{Alpine, "adduser -DH -g '' -u 10001 appuser", "appuser:x:10001:10001::/home/appuser:/bin/sh", "appuser:x:10001:", "appuser:" + dated, 0},
		{Alpine, "adduser -S -D -H -h /app appuser", "appuser:x:100:65533:Linux User,,,:/app:/sbin/nologin", "nogroup:x:65533:appuser", "appuser:" + dated, 0},
		{Alpine, "addgroup -S app && adduser -H -S -G app app", "app:x:100:101:Linux User,,,:/home/app:/sbin/nologin", "app:x:101:app", "app:" + dated, 0},
		{Alpine, "addgroup -g 1000 app && adduser -H -u 1000 -G app -D app", "app:x:1000:1000:Linux User,,,:/home/app:/bin/sh", "app:x:1000:app", "app:" + dated, 0},
		{Alpine, "adduser --disabled-password --gecos '' --home /nonexistent --shell /sbin/nologin --no-create-home --uid 10001 appuser", "appuser:x:10001:10001::/nonexistent:/sbin/nologin", "appuser:x:10001:", "appuser:" + dated, 0},
		{Alpine, "adduser -D -H app && addgroup docker && addgroup app docker", "app:x:1000:1000:Linux User,,,:/home/app:/bin/sh", "app:x:1000:|docker:x:1001:app", "app:" + dated, 0},
		{Alpine, "addgroup --system --gid 500 g; addgroup -S h; adduser --system -H --ingroup g a", "a:x:100:500:Linux User,,,:/home/a:/sbin/nologin", "g:x:500:a|h:x:101:", "a:" + dated, 0},
		{Alpine, "adduser -D -H -g 'A B' -s /bin/bash a.b", "a.b:x:1000:1000:A B:/home/a.b:/bin/bash", "a.b:x:1000:", "a.b:" + dated, 0},
		{Alpine, "adduser -D -H app; adduser app ping", "app:x:1000:1000:Linux User,,,:/home/app:/bin/sh", "ping:x:999:app|app:x:1000:", "app:" + dated, 0},
		{Alpine, "adduser -D -H app && deluser app", "", "", "", 0},
		{Alpine, "adduser -D root", "", "", "", 1},
		{Alpine, "adduser -D -u 405 x", "", "", "", 1},
		{Alpine, "adduser -D -G nogrp a", "", "", "", 1},
		{Alpine, "adduser -D 'a b'", "", "", "", 1},
		{Alpine, "addgroup root", "", "", "", 1},
		{Alpine, "adduser app nosuch", "", "", "", 1},
		{Debian, "adduser --disabled-password --gecos '' --no-create-home --uid 10001 appuser", "appuser:x:10001:10001:,,,:/home/appuser:/bin/bash", "users:x:100:appuser|appuser:x:10001:", "appuser:" + dated, 0},
		{Debian, "adduser --system --group --no-create-home app", "app:x:100:101::/nonexistent:/usr/sbin/nologin", "app:x:101:", "app:!:TODAY::::::", 0},
		{Debian, "useradd -r -u 1001 -s /sbin/nologin -c 'an app' app", "app:x:1001:999:an app:/home/app:/sbin/nologin", "app:x:999:", "app:!:TODAY::::::", 0},
		{Debian, "groupadd -r -g 999 app && useradd --no-log-init -r -g app app", "app:x:999:999::/home/app:/bin/sh", "app:x:999:", "app:!:TODAY::::::", 0},
		{Debian, "useradd -u 1000 -M app", "app:x:1000:1000::/home/app:/bin/sh", "app:x:1000:", "app:" + dated, 0},
		{Debian, "useradd root", "", "", "", 9},
	}
	for _, tt := range tests {
		t.Run(string(tt.variant)+" "+tt.script, func(t *testing.T) {
			root := newRoot(t, tt.variant)
			before := map[string][]byte{}
			for _, file := range []string{"passwd", "group", "shadow"} {
				before[file], _ = os.ReadFile(filepath.Join(root, "etc", file))
			}
			out, code := runScript(t, root, tt.script)
			if code != tt.code {
				t.Fatalf("exit %d: %s", code, out)
			}
			for file, want := range map[string]string{"passwd": tt.passwd, "group": tt.group, "shadow": tt.shadow} {
				if got := newLines(t, root, file, before[file]); got != want {
					t.Errorf("%s: %s, want %s", file, got, want)
				}
			}
		})
	}
}

// TestHome: the home directory, its mode, and the copies of the files as they were. As one's own user and group
// the owner can be set by anybody.
func TestHome(t *testing.T) {
	root := newRoot(t, Alpine)
	uid := strconv.Itoa(os.Getuid())
	file := filepath.Join(root, "etc", "group")
	if err := os.WriteFile(file, []byte("own:x:"+strconv.Itoa(os.Getgid())+":\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "passwd"), []byte("other:x:77777:77777::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, code := runScript(t, root, "adduser -D -G own -u "+uid+" app"); code != 0 {
		t.Fatal(out)
	}
	info, err := os.Stat(filepath.Join(root, "home", "app"))
	if err != nil {
		t.Fatal(err)
	}
	if got := octal(info.Mode()); got != "2755" {
		t.Errorf("mode %s, want 2755", got)
	}
	if old, err := os.ReadFile(filepath.Join(root, "etc", "passwd-")); err != nil || string(old) != "other:x:77777:77777::/:/bin/sh\n" {
		t.Errorf("passwd-: %q, %v", old, err)
	}
}
