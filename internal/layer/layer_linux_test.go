package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/inode/inodetest"
	"github.com/skiff-build/skiff/internal/whiteout"
)

const caps = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

var long = strings.Repeat("long", 60)

// makeLayer makes a layer with everything that one can hold.
func makeLayer(t *testing.T) string {
	dir := t.TempDir()
	file := func(name, text string, i inode.Info) {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		i.Mode |= inode.TypeFile
		must(t, inode.Set(filepath.Join(dir, name), i))
		must(t, inode.SetTimes(filepath.Join(dir, name), 1234567890_500000000))
	}
	node := func(name string, i inode.Info) {
		must(t, inode.Create(filepath.Join(dir, name), i))
		must(t, inode.SetTimes(filepath.Join(dir, name), 1234567890_500000000))
	}
	for _, d := range []string{"etc", "bin", "opaque", "root"} {
		node(d, inode.Info{Mode: inode.TypeDir | 0o755})
	}
	must(t, inode.Set(filepath.Join(dir, "root"), inode.Info{Mode: inode.TypeDir | 0o700, UID: 1000, GID: 1000}))
	file("etc/passwd", "root:x:0:0\n", inode.Info{Mode: 0o644})
	file("etc/shadow", "", inode.Info{Mode: 0o640, GID: 42})
	file("bin/su", "su", inode.Info{Mode: 0o4755, UID: 5, GID: 6})
	file("bin/ping", "ping", inode.Info{Mode: 0o755, Xattrs: map[string]string{inode.CapabilityXattr: caps}})
	file("big-ids", "", inode.Info{Mode: 0o644, UID: 3000000, GID: 4000000000})
	file("latin-\xe9", "not UTF-8", inode.Info{Mode: 0o644})
	file(long, "name", inode.Info{Mode: 0o600})
	file("hard1", "linked", inode.Info{Mode: 0o644})
	must(t, os.Link(filepath.Join(dir, "hard1"), filepath.Join(dir, "etc/hard2")))
	node("link", inode.Info{Mode: inode.TypeLink | 0o777, Link: "../../x"})
	node("owned-link", inode.Info{Mode: inode.TypeLink | 0o777, Link: "/y", UID: 7, GID: 8})
	node("fifo", inode.Info{Mode: inode.TypeFIFO | 0o600, UID: 3})
	node("null", inode.Info{Mode: inode.TypeChar | 0o666, Major: 1, Minor: 3})
	node("disk", inode.Info{Mode: inode.TypeBlock | 0o660, GID: 6, Major: 8, Minor: 1})
	node("socket", inode.Info{Mode: inode.TypeSocket | 0o755})
	must(t, whiteout.Make(dir, "etc/removed"))
	must(t, whiteout.SetOpaque(filepath.Join(dir, "opaque"), true))
	file("opaque/new", "new", inode.Info{Mode: 0o644})
	return dir
}

var goldenLayer = []string{
	"file big-ids 644 3000000:4000000000 0 \"\" 7",
	"dir bin/ 755 0:0 0 \"\" 7",
	"file bin/ping 755 0:0 4 \"\" 7 caps",
	"file bin/su 4755 5:6 2 \"\" 7",
	"block disk 660 0:6 0 \"\" 7 8:1",
	"dir etc/ 755 0:0 0 \"\" 7",
	"file etc/hard2 644 0:0 6 \"\" 7",
	"file etc/passwd 644 0:0 11 \"\" 7",
	"file etc/.wh.removed 0 0:0 0 \"\" 7",
	"file etc/shadow 640 0:42 0 \"\" 7",
	"fifo fifo 600 3:0 0 \"\" 7",
	"hard hard1 644 0:0 0 \"etc/hard2\" 7",
	"file latin-\xe9 644 0:0 9 \"\" 7",
	"link link 777 0:0 0 \"../../x\" 7",
	"file " + long + " 600 0:0 4 \"\" 7",
	"char null 666 0:0 0 \"\" 7 1:3",
	"dir opaque/ 755 0:0 0 \"\" 7",
	"file opaque/.wh..wh..opq 0 0:0 0 \"\" 7",
	"file opaque/new 644 0:0 3 \"\" 7",
	"link owned-link 777 7:8 0 \"/y\" 7",
	"dir root/ 700 1000:1000 0 \"\" 7",
}

// goldenDigest is of the layer's tar. It is the same for root, with subordinate ids and with one id.
const goldenDigest = "sha256:ae9f04a541d76c6c8de28c5e9884dcbc6dfb1a82934dba481ac190727cb16421"

var typeNames = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "dir", tar.TypeLink: "hard", tar.TypeSymlink: "link",
	tar.TypeFifo: "fifo", tar.TypeChar: "char", tar.TypeBlock: "block",
}

// list describes the entries of a tar, a line each.
func list(t *testing.T, data []byte) []string {
	t.Helper()
	var lines []string
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return lines
		}
		must(t, err)
		line := fmt.Sprintf("%s %s %o %d:%d %d %q %d", typeNames[h.Typeflag], h.Name, h.Mode, h.Uid, h.Gid, h.Size, h.Linkname, h.ModTime.Unix())
		if h.Devmajor != 0 || h.Devminor != 0 {
			line += fmt.Sprintf(" %d:%d", h.Devmajor, h.Devminor)
		}
		if h.PAXRecords[capsRecord] == caps {
			line += " caps"
		}
		if h.Uname != "" || h.Gname != "" || !h.AccessTime.IsZero() {
			t.Errorf("%s: names or times of this machine: %+v", h.Name, h)
		}
		lines = append(lines, line)
	}
}

func TestPack(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		dir := makeLayer(t)
		data, packed := pack(t, dir, PackOptions{Epoch: 7})
		if got := list(t, data); !slices.Equal(got, goldenLayer) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(goldenLayer, "\n"))
		}
		if packed.DiffID != goldenDigest || packed.Size != int64(len(data)) || packed.Files != 39 {
			t.Errorf("%d bytes: %+v", len(data), packed)
		}

		// There and back again.
		again := t.TempDir()
		unpacked, err := Unpack(context.Background(), bytes.NewReader(data), again, UnpackOptions{})
		must(t, err)
		if unpacked != packed {
			t.Errorf("unpacked %+v, packed %+v", unpacked, packed)
		}
		data2, _ := pack(t, again, PackOptions{Epoch: 7})
		if !bytes.Equal(data, data2) {
			t.Errorf("got\n%s", strings.Join(list(t, data2), "\n"))
		}
	})
}

func TestKeepTimes(t *testing.T) {
	inodetest.Run(t, func(t *testing.T, mode string) {
		dir := t.TempDir()
		for name, info := range map[string]inode.Info{
			"d": {Mode: inode.TypeDir | 0o755, UID: 5},
			"l": {Mode: inode.TypeLink | 0o777, Link: "x"},
			"o": {Mode: inode.TypeLink | 0o777, Link: "x", GID: 5},
		} {
			must(t, inode.Create(filepath.Join(dir, name), info))
			must(t, inode.SetTimes(filepath.Join(dir, name), 1234567890_999999999))
		}
		data, _ := pack(t, dir, PackOptions{Epoch: 7, KeepTimes: true})
		want := []string{
			"dir d/ 755 5:0 0 \"\" 1234567890",
			"link l 777 0:0 0 \"x\" 1234567890",
			"link o 777 0:5 0 \"x\" 7", // with one id its time holds its owner
		}
		if got := list(t, data); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}

// The tar command reads what Pack writes.
func TestTarCommand(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("there is no tar command")
	}
	inodetest.Run(t, func(t *testing.T, mode string) {
		data, _ := pack(t, makeLayer(t), PackOptions{Epoch: 7})
		cmd := exec.Command("tar", "-tvf", "-", "--numeric-owner", "--quoting-style=literal")
		cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		must(t, err)
		for _, want := range []string{
			"-rwsr-xr-x 5/6 ", " etc/hard2", "hrw-r--r-- 0/0 ", "hard1 link to etc/hard2", "crw-rw-rw- 0/0 ", "3000000/4000000000",
			"lrwxrwxrwx 7/8 ", "owned-link -> /y", "drwx------ 1000/1000", long, "latin-\xe9", "1970-01-01 00:00 bin/ping",
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
		if n := strings.Count(string(out), "\n"); n != len(goldenLayer) {
			t.Errorf("%d entries, want %d", n, len(goldenLayer))
		}
	})
}

func TestPackErrors(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o644))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Pack(ctx, io.Discard, dir, PackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Pack(context.Background(), failing{}, dir, PackOptions{}); !errors.Is(err, errFull) {
		t.Errorf("full disk: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, ".wh.x"), nil, 0o644))
	if _, err := Pack(context.Background(), io.Discard, dir, PackOptions{}); err == nil {
		t.Error("a file named as a whiteout")
	}
	if _, err := Pack(context.Background(), io.Discard, filepath.Join(dir, "none"), PackOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

func pack(t *testing.T, dir string, o PackOptions) ([]byte, Packed) {
	t.Helper()
	var b bytes.Buffer
	packed, err := Pack(context.Background(), &b, dir, o)
	must(t, err)
	return b.Bytes(), packed
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
