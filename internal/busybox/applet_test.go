package busybox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skiff-build/skiff/internal/rootfiles"
)

// newRoot makes a root in which the commands of the base are found, with the accounts of a variant.
func newRoot(t *testing.T, v Variant) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range v.Accounts() {
		write(e.Name, e.Data)
	}
	write(strings.TrimPrefix(MakeVersionPath, "/"), []byte("4.4.1\n"))
	for _, name := range []string{"home", "root", "tmp", "work", "bin"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"dev", "proc"} {
		if err := os.Symlink("/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	links, err := commandLinks()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range CommandNames() {
		if !v.Lacks(name) {
			if err := os.Symlink(filepath.Join(links, "self"), filepath.Join(dir, "bin", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// commandLinks is a folder with a symlink for each command, made once: a root in a test needs no own.
var commandLinks = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gobase")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "self"), nil, 0o755); err != nil {
		return "", err
	}
	for _, name := range CommandNames() {
		if err := os.Symlink(filepath.Join(dir, "self"), filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	return dir, nil
})

// runScript runs a script by the base's sh, in the folder work of a root.
func runScript(t *testing.T, root, script string, env ...string) (out string, code int) {
	t.Helper()
	work := filepath.Join(root, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	links, err := commandLinks()
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var once sync.Once
	code = runCommand(&call{
		ctx: ctx, args: []string{"sh", "-c", script}, dir: work, root: root, self: filepath.Join(links, "self"),
		refuse: func(err error) {
			once.Do(func() { fmt.Fprintf(&buf, "not served: %v\n", err) })
			cancel()
		},
		env:   append([]string{"PATH=/bin", "TZ=UTC"}, env...),
		stdin: strings.NewReader(""), stdout: &buf, stderr: &buf,
	})
	return strings.NewReplacer(root, "", links, "/bin").Replace(buf.String()), code
}

// TestCommands holds what scripts in builder stages rely on. The expected output is that of BusyBox 1.36.
func TestCommands(t *testing.T) {
	tests := []struct {
		script, want string
		code         int
	}{
		{"echo a b; echo -n c; echo", "a b\nc\n", 0},
		{"printf '%s-%03d\\n' x 7", "x-007\n", 0},
		{"mkdir -p a/b/c && ls -1 a && rm -rf a && ls", "b\n", 0},
		{"mkdir -p -m 700 x && stat -c %a x", "700\n", 0},
		{"mkdir x; mkdir x; echo $?", "mkdir: can't create directory 'x': File exists\n1\n", 0},
		{"touch f && chmod +x f && stat -c %a f && chmod 640 f && stat -c %a f && chmod go=r,u-w f && stat -c %a f", "755\n640\n444\n", 0},
		{"mkdir -p d/e && touch d/e/f && chmod -R 700 d && stat -c %a d/e/f && chmod -R a-x,u+X d && stat -c '%a %n' d d/e/f", "700\n700 d\n600 d/e/f\n", 0},
		{"echo 1 > a; cp a b; cat b; cp -r nosuch c; echo $?", "1\ncp: can't copy 'nosuch': No such file or directory\n1\n", 0},
		{"mkdir -p s/t && echo x > s/t/f && ln -s f s/t/l && cp -a s d && readlink d/t/l && cat d/t/f && mkdir e && cp -r s e && ls e/s", "f\nx\nt\n", 0},
		{"mkdir s d; echo x > s/.h; cp -r s/. d; ls -A d", ".h\n", 0},
		{"cp s d", "cp: can't copy 's': No such file or directory\n", 1},
		{"echo x > a; mkdir d; mv a d; cat d/a; mv d/a b; cat b; ls d", "x\nx\n", 0},
		{"echo x > a; ln -s a l; ln -sf b l; readlink l; ln a h; cat h", "b\nx\n", 0},
		{"rm nosuch", "rm: can't remove 'nosuch': No such file or directory\n", 1},
		{"rm -f nosuch; mkdir d; rm d; echo $?", "rm: can't remove 'd': Is a directory\n1\n", 0},
		{"printf 'b\\na\\nb\\n' > f; sort f; sort -u f | tail -1; sort -r f | head -n 1; uniq f | wc -l", "a\nb\nb\nb\nb\n3\n", 0},
		{"printf '10\\n9\\n' | sort -n; printf 'v1.10\\nv1.9\\n' | sort -V", "9\n10\nv1.9\nv1.10\n", 0},
		{"printf 'x 2\\ny 1\\n' | sort -k2; printf 'a:3\\nb:1\\n' | sort -t : -k 2 -n", "y 1\nx 2\nb:1\na:3\n", 0},
		{"seq 20 | head -3; seq 20 | tail -2; seq 5 | tail -n +4; seq 3 | head -n -1", "1\n2\n3\n19\n20\n4\n5\n1\n2\n", 0},
		{"printf 'a\\nb\\n' | grep -q b && echo yes; printf 'a\\n' | grep b; echo $?", "yes\n1\n", 0},
		{"printf 'foo1\\nbar\\n' > f; grep -E '^fo+[0-9]$' f; grep -c . f; grep -v foo f; grep -n bar f; grep -o 'o*' f | head -1", "foo1\n2\nbar\n2:bar\noo\n", 0},
		{"printf 'a+b\\naab\\n' | grep 'a+b'; printf 'a+b\\naab\\n' | grep 'a\\+b'; printf 'a.b\\naxb\\n' | grep -F a.b", "a+b\naab\na.b\n", 0},
		{"mkdir -p p/q; echo needle > p/q/f; grep -r needle p; grep -rl needle .", "p/q/f:needle\n./p/q/f\n", 0},
		{"grep x nosuch", "grep: nosuch: No such file or directory\n", 2},
		{"echo a:b:c | cut -d: -f2; echo a:b:c | cut -d : -f 1,3; echo abcdef | cut -c2-4", "b\na:c\nbcd\n", 0},
		{"echo 'go version go1.26.8 linux/amd64' | cut -d' ' -f3 | tr -d go; echo abc | tr a-z A-Z; echo aabb | tr -s ab", "1.26.8\nABC\nab\n", 0},
		{"echo x | tee a b; cat a b; echo y | tee -a a > /dev/null; cat a", "x\nx\nx\nx\ny\n", 0},
		{"mkdir -p a/b; touch a/x.go a/b/y.go a/z.txt; find a -name '*.go' | sort; find a -type d | sort; find a -maxdepth 1 -type f | sort", "a/b/y.go\na/x.go\na\na/b\na/x.go\na/z.txt\n", 0},
		{"mkdir a; touch a/1 a/2; find a -type f -exec echo got {} \\; | sort; find a -type f -delete; ls a", "got a/1\ngot a/2\n", 0},
		{"mkdir -p a/v b; touch a/v/1 a/2; find . -path './a/v' -prune -o -type f -print", "./a/2\n", 0},
		{"printf '1\\n2 3\\n' | xargs echo; printf 'a b' | xargs -n 1 echo x; printf 'a b\\nc\\n' | xargs -I{} echo '<{}>'; printf 'a\\0b c\\0' | xargs -0 -n1 echo", "1 2 3\nx a\nx b\n<a b>\n<c>\na\nb c\n", 0},
		{"xargs -r echo never < /dev/null; echo a | xargs false; echo $?", "123\n", 0},
		{"basename /a/b.go .go; basename a/; dirname /a/b; dirname a; dirname /a", "b\na\n/a\n.\n/\n", 0},
		{"date -u -d @0 +%Y-%m-%dT%H:%M:%SZ; date -u -d '2026-11-23 12:00:00' +%s; date -d @86400 '+%j %A %-d'", "1970-01-01T00:00:00Z\n1795435200\n002 Friday 2\n", 0},
		{"printf abc | sha256sum; printf abc | md5sum", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n900150983cd24fb0d6963f7d28e17f72  -\n", 0},
		{"printf abc > f; sha256sum f > s; sha256sum -c s; echo x > f; sha256sum -c s; echo $?", "f: OK\nsha256sum: WARNING: computed checksums did NOT match\nf: FAILED\n1\n", 0},
		{"printf hello | base64; echo aGVsbG8= | base64 -d; echo", "aGVsbG8=\nhello\n", 0},
		{"env -i A=1 B=2 PATH=$PATH printenv A B; env -u A printenv A; echo $?", "1\n2\n1\n", 0},
		{"A=1 sh -c 'echo $A $0 $1' x y; sh -ec 'false; echo no'; echo $?", "1 x y\n1\n", 0},
		{"bash -c 'echo -e \"a\\tb\"'; set -o pipefail; false | true; echo $?", "a\tb\n1\n", 0},
		{"set -e; false; echo no", "", 1},
		{"set -x; echo a", "+ echo a\na\n", 0},
		{"set -u; echo $nosuch; echo no", "sh: nosuch: parameter not set\n", 2},
		{"trap 'echo bye' EXIT; exit 3", "bye\n", 3},
		{"f() { local x=1; echo $x; }; f; [ -n a ] && [ ! -e nosuch ] && test 1 -lt 2 && echo ok", "1\nok\n", 0},
		{"case abc in a*) echo m;; *) echo n;; esac; i=0; while [ $i -lt 3 ]; do i=$((i+1)); done; echo $i ${i:-x} ${y:-z} {a,b}", "m\n3 3 z {a,b}\n", 0},
		{"cat <<EOF\n$((1+1)) {a,b}\nEOF", "2 {a,b}\n", 0},
		{"echo 'echo from $0 $1' > s.sh; sh s.sh x; . ./s.sh", "from s.sh x\nfrom sh\n", 0},
		{"nosuch; echo $?", "sh: nosuch: not found\n127\n", 0},
		{"exec echo replaced; echo no", "replaced\n", 0},
		{"(exit 4); echo $?; ! true; echo $?; true && false || echo or", "4\n1\nor\n", 0},
		{"git describe --tags; echo $?", "fatal: not a git repository (or any of the parent directories): .git\n128\n", 0},
		{"git config --global --add safe.directory /src && git -C x rev-parse HEAD", "fatal: not a git repository (or any of the parent directories): .git\n", 128},
		{"ls --zero", "not served: unrecognized option --zero\n", 125},
		{"install -d d/e && echo x > f && install -m 600 f d/e && stat -c '%a %n' d/e/f && install -D f new/dir/g && cat new/dir/g", "600 d/e/f\nx\n", 0},
		{"d=$(mktemp -d) && [ -d $d ] && rmdir $d && echo ok", "ok\n", 0},
		{"touch -d @0 f; stat -c %Y f; echo x > g; [ g -nt f ] && echo newer", "0\nnewer\n", 0},
		{"echo 'a b' | wc -w; printf 'a\\nb' | wc -l; printf abc | wc -c", "2\n1\n3\n", 0},
		{"which nosuch; echo $?; command -v cd; command -v nosuch; echo $?", "1\ncd\n127\n", 0},
		{"uname; uname -s; id -u > /dev/null && whoami > /dev/null && echo ok", "Linux\nLinux\nok\n", 0},
		{"sleep 0.01 & wait; echo done", "done\n", 0},
		{"time true 2>/dev/null; echo $?", "0\n", 0},
		{"export A=1 B; B=2; sh -c 'echo $A $B'; readonly R=1; (R=2) 2>/dev/null; echo $? $R {a,b}", "1 2\n2 1 {a,b}\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.script, func(t *testing.T) {
			out, code := runScript(t, newRoot(t, Alpine), tt.script, "TMPDIR=.")
			if out != tt.want || code != tt.code {
				t.Errorf("exit %d, output\n%s\nwant exit %d\n%s", code, out, tt.code, tt.want)
			}
		})
	}
}

func TestPackagesAnswer(t *testing.T) {
	for _, script := range []string{
		"apk update && apk add --no-cache git=~2 ca-certificates", "apk --no-cache add -t .deps gcc && apk del .deps", "update-ca-certificates",
	} {
		if out, code := runScript(t, newRoot(t, Alpine), script); code != 0 || !strings.Contains(out, "built-in Go base") {
			t.Errorf("%s: exit %d, %s", script, code, out)
		}
	}
	verb, names := PackageArgs(strings.Fields("--no-cache add -t .deps git=~2 sqlite>3.38 make -X http://x upx"))
	if verb != "add" || strings.Join(names, " ") != "git sqlite make upx" {
		t.Errorf("%s %q", verb, names)
	}
}

// TestOwnCertificates: CAs that a stage adds reach the bundle that later stages copy.
func TestOwnCertificates(t *testing.T) {
	root := newRoot(t, Alpine)
	for name, data := range map[string]string{"usr/local/share/ca-certificates/own.crt": "OWN CERTIFICATE\n", "etc/ssl/certs/ca-certificates.crt": ""} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, code := runScript(t, root, "update-ca-certificates"); code != 0 {
		t.Fatal(out)
	}
	bundle, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil || !bytes.HasSuffix(bundle, []byte("\nOWN CERTIFICATE\n")) || !bytes.HasPrefix(bundle, rootfiles.CABundle()) {
		t.Errorf("%d bytes, %v", len(bundle), err)
	}
}

func TestAppletByName(t *testing.T) {
	for _, args := range [][]string{{"/bin/sh", "-c", "exit 5"}, {"-sh", "-c", "exit 5"}} {
		run, ok := Applet(args)
		if !ok || run() != 5 {
			t.Errorf("%q: %v", args, ok)
		}
	}
	for _, args := range [][]string{{"skiff", "build"}, {}, {"/usr/libexec/skiff"}} {
		if _, ok := Applet(args); ok {
			t.Errorf("%q is a command of the base", args)
		}
	}
}
