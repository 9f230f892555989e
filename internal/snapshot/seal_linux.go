package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/whiteout"
)

// The seal of a layer, the file layers/ID/seal, says what the layer was when it was committed, in two ways.
//
// The stamps are a digest over what stat says of every folder and of the largest files: type and permissions, size, and the times of
// change. Whoever removes, adds, renames or replaces an entry changes a time of its folder that no program can set back (ctime), so
// stamps that agree say that nothing was taken away or put there, for the price of one stat a folder. They are looked at before a
// process first uses the layer.
//
// The content is a digest over names, attributes and bytes of everything. It decides where the stamps do not agree: a state that was
// copied, or restored from an archive, has other times of change and the same content, and is sealed anew. Times count by the second,
// since many archives keep no more. The content is digested after the commit, beside what follows; a layer whose process was killed
// before that is as good as any other until it is copied.

const (
	sealMagic = "skiff-seal 1 "

	// stampedFiles is how many files are in the stamps, the largest ones: a stat takes 2 µs, and in a Go toolchain of 11,500 files
	// the 2,000 largest hold nine tenths of the bytes.
	stampedFiles = 2000
)

// seal is the content of the file. What is not known yet is empty.
type seal struct {
	over    string // the id of the layer that this one completes
	stamps  string // hexadecimal
	content string // hexadecimal
	stamped []string
}

func (s *Snapshots) sealFile(id string) string { return filepath.Join(s.root, "layers", id, "seal") }

// encode writes the seal of a layer as text: recordMagic and a sha256 over the id and the rest, then the fields, then the names that
// are stamped, each ended by a zero byte.
func (q seal) encode(id string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n%s\n%s\n", q.over, q.stamps, q.content)
	for _, name := range q.stamped {
		b.WriteString(name)
		b.WriteByte(0)
	}
	return append(sealLine(id, b.Bytes()), b.Bytes()...)
}

func sealLine(id string, rest []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", id)
	h.Write(rest)
	return fmt.Appendf(nil, "%s%x\n", sealMagic, h.Sum(nil))
}

var errSeal = errors.New("its seal is broken")

func decodeSeal(id string, b []byte) (q seal, err error) {
	n := min(len(b), len(sealMagic)+2*sha256.Size+1)
	line, rest := b[:n], b[n:]
	fields := bytes.SplitN(rest, []byte{'\n'}, 4)
	if !bytes.Equal(line, sealLine(id, rest)) || len(fields) != 4 {
		return q, errSeal
	}
	q = seal{over: string(fields[0]), stamps: string(fields[1]), content: string(fields[2])}
	q.stamped = strings.Split(strings.TrimSuffix(string(fields[3]), "\x00"), "\x00")
	return q, nil
}

// newSeal seals the layer below dir, which lies where it likes until it is committed, by its stamps.
func newSeal(dir, over string) (q seal, err error) {
	type file struct {
		name string
		size int64
	}
	var files []file
	largest := func(files []file) []file {
		slices.SortStableFunc(files, func(a, b file) int { return cmp.Compare(b.size, a.size) })
		return files[:min(len(files), stampedFiles)]
	}
	root := filepath.Join(dir, "fs")
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path[len(root):], "/")
		if e.IsDir() {
			q.stamped = append(q.stamped, cmp.Or(name, "."))
			return nil
		}
		i, err := e.Info()
		if err == nil {
			files = append(files, file{name, i.Size()})
		}
		if len(files) >= 4*stampedFiles { // not all of them are kept: there may be a million
			files = largest(files)
		}
		return err
	})
	if err != nil {
		return q, fmt.Errorf("seal layer: %w", err)
	}
	files = largest(files)
	for _, f := range files {
		q.stamped = append(q.stamped, f.name)
	}
	q.over = over
	q.stamps, err = stamps(root, q.stamped)
	return q, err
}

// stamps digests what stat says of files below root. Several processors share the work, which is some thousand system calls.
func stamps(root string, names []string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	const each = 500
	sums := make([][sha256.Size]byte, (len(names)+each-1)/each)
	errs := make([]error, len(sums))
	var wg sync.WaitGroup
	slot := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range sums {
		part := names[i*each : min(len(names), (i+1)*each)]
		slot <- struct{}{}
		wg.Go(func() {
			sums[i], errs[i] = stampsOf(dir, part)
			<-slot
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("look at %s: %w", root, err)
	}
	h := sha256.New()
	for _, sum := range sums {
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func stampsOf(dir int, names []string) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	var line []byte
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return sum, &fs.PathError{Op: "lstat", Path: name, Err: err}
		}
		size := st.Size
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			size = 0 // file systems differ in what it means, and the content shows in the times
		}
		line = fmt.Appendf(line[:0], "%s\x00%o %d %d %d\n", name, st.Mode, size, st.Mtim.Nano(), st.Ctim.Nano())
		h.Write(line)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// contentDigest digests everything in the layer below root: what steps can see of it, whatever file system and mode it lies in.
func contentDigest(ctx context.Context, root string) (string, error) {
	d := &digester{ctx: ctx, root: root, sum: sha256.New(), bytes: xxhash.New(), buf: make([]byte, 256<<10), links: map[[2]uint64]string{}}
	if err := filepath.WalkDir(root, d.entry); err != nil {
		return "", fmt.Errorf("read layer: %w", err)
	}
	return hex.EncodeToString(d.sum.Sum(nil)), nil
}

// digester is one run of contentDigest. The bytes of files count by xxhash, which takes no longer than to read them: the disk is no
// adversary, and whoever can write to the state can do so to the seal.
type digester struct {
	ctx   context.Context
	root  string
	sum   hash.Hash
	bytes *xxhash.Digest
	buf   []byte
	line  []byte               // of the file that is under way
	links map[[2]uint64]string // device and inode of a file with several names -> first name
}

func (d *digester) entry(path string, e fs.DirEntry, err error) error {
	if err == nil {
		err = d.ctx.Err()
	}
	if err != nil {
		return err
	}
	i, err := inode.Lstat(path)
	if err != nil {
		return err
	}
	name := path[len(d.root):]
	d.attributes(name, i)
	switch {
	case whiteout.Is(path, i):
		d.line = append(d.line, " whiteout"...)
	case i.IsDir():
		d.line = fmt.Append(d.line, " ", whiteout.IsOpaque(path), whiteout.Marked(path))
	case i.IsRegular():
		if err := d.file(path, name, i); err != nil {
			return err
		}
	}
	d.sum.Write(append(d.line, '\n'))
	return nil
}

// attributes begins the line of a file. With many files it counts that fmt is not used.
func (d *digester) attributes(name string, i inode.Info) {
	b := strconv.AppendQuote(d.line[:0], name)
	b = strconv.AppendUint(append(b, ' '), uint64(i.Mode), 8)
	for _, n := range [...]int64{int64(i.UID), int64(i.GID), i.Mtime / 1e9, int64(i.Major), int64(i.Minor)} {
		b = strconv.AppendInt(append(b, ' '), n, 10)
	}
	b = strconv.AppendQuote(append(b, ' '), i.Link)
	d.line = strconv.AppendQuote(append(b, ' '), i.Xattrs[inode.CapabilityXattr])
}

// file digests a regular file. Where it is one of several names in the layer, the first stands for the rest.
func (d *digester) file(path, name string, i inode.Info) error {
	if i.Nlink > 1 {
		key := [2]uint64{i.Dev, i.Ino}
		if first, ok := d.links[key]; ok {
			d.line = fmt.Appendf(d.line, " link %q", first)
			return nil
		}
		d.links[key] = name
	}
	d.bytes.Reset()
	if i.Size == 0 {
		d.line = fmt.Appendf(d.line, " %d %x", 0, d.bytes.Sum64())
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOATIME, 0)
	if errors.Is(err, fs.ErrPermission) { // only the owner may leave the time of access alone
		f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{d.bytes}, struct{ io.Reader }{f}, d.buf)
	d.line = fmt.Appendf(d.line, " %d %x", n, d.bytes.Sum64())
	return err
}

// vouched is what is known of a layer in this process.
type vouched struct {
	once sync.Once
	over string
	err  error
}

// Vouch makes sure that layers are what was committed, each once in the life of s. Those that are not are moved away, and the error
// is a *[Damaged].
func (s *Snapshots) Vouch(ids ...string) error {
	_, err := s.vouchAll(ids)
	return err
}

// vouchAll is Vouch for a chain, and for what its layers complete. It returns all of them, each completed one below the one that
// completes it.
func (s *Snapshots) vouchAll(chain []string) ([]string, error) {
	if err := checkChain(chain); err != nil {
		return nil, err
	}
	out := make([]string, 0, len(chain))
	var damaged []string
	take := func(id string) (string, error) {
		over, err := s.vouch(id)
		var d *Damaged
		if errors.As(err, &d) {
			damaged, err = append(damaged, d.Layers...), nil
		}
		return over, err
	}
	for _, id := range chain {
		over, err := take(id)
		if err == nil && over != "" {
			_, err = take(over)
			out = append(out, over)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	if len(damaged) > 0 {
		return nil, &Damaged{damaged}
	}
	return out, checkChain(out)
}

func (s *Snapshots) vouch(id string) (over string, err error) {
	s.mu.Lock()
	v := s.vouched[id]
	if v == nil {
		v = &vouched{}
		s.vouched[id] = v
	}
	s.mu.Unlock()
	v.once.Do(func() {
		v.over, v.err = s.checkSeal(context.Background(), id, false)
		if v.err != nil {
			s.forget(id, v)
		}
	})
	return v.over, v.err
}

// forget has a layer looked at again by the next one who asks.
func (s *Snapshots) forget(id string, v *vouched) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vouched[id] == v {
		delete(s.vouched, id)
	}
}

// checkSeal looks at a layer, at its content where that was asked for or the stamps do not agree. One that is damaged is moved away.
func (s *Snapshots) checkSeal(ctx context.Context, id string, content bool) (over string, err error) {
	q, err := s.compare(ctx, id, content)
	switch {
	case s.outside:
		// The namespace in which owners are what they are is the place to say what is damaged, and to mend it.
	case err == nil && q.content == "":
		s.sealContent(id, q)
	case isDamage(err):
		if err := s.moveAway(id); err != nil {
			return "", err
		}
		return "", &Damaged{[]string{id}}
	}
	return q.over, err
}

// errChanged: the layer is not what it was.
var errChanged = errors.New("it is not what was committed")

// isDamage tells damage from what went wrong while it was looked for, such as a file that this process may not read.
func isDamage(err error) bool {
	for _, sign := range []error{errSeal, errChanged, fs.ErrNotExist, unix.ENOTDIR, unix.EIO, unix.EUCLEAN, unix.EBADMSG, unix.ELOOP} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return false
}

// compare returns the seal of a layer that is what it says, and errChanged or what else was found.
func (s *Snapshots) compare(ctx context.Context, id string, content bool) (q seal, err error) {
	if err := checkID(id); err != nil {
		return q, err
	}
	b, err := os.ReadFile(s.sealFile(id))
	if err != nil {
		return q, err
	}
	if q, err = decodeSeal(id, b); err != nil {
		return q, err
	}
	over, err := os.ReadFile(s.overFile(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || string(over) != q.over {
		return q, cmp.Or(err, errChanged)
	}
	now, err := stamps(s.layerDir(id), q.stamped)
	if err != nil {
		return q, err
	}
	if now == q.stamps && (!content || q.content == "") {
		return q, nil
	}
	if q.content == "" || s.outside {
		return q, errChanged
	}
	is, err := contentDigest(ctx, s.layerDir(id))
	if err != nil {
		return q, err
	}
	if is != q.content {
		return q, errChanged
	}
	if now == q.stamps {
		return q, nil
	}
	again, err := newSeal(filepath.Dir(s.layerDir(id)), q.over)
	if err != nil {
		return q, err
	}
	again.content = q.content
	_ = s.writeSeal(id, again) // without it the next process reads the content again
	return again, nil
}

// Verify looks at the content of a layer, whatever its stamps say. One that is damaged is moved away, and the error is a *[Damaged].
func (s *Snapshots) Verify(ctx context.Context, id string) error {
	_, err := s.checkSeal(ctx, id, true)
	return err
}

// moveAway takes a layer out of the way. A mount of another process may still show it, so its files go with the next trim, which is
// alone.
func (s *Snapshots) moveAway(id string) error {
	err := os.MkdirAll(filepath.Join(s.root, "tmp"), 0o700)
	if err == nil {
		err = os.Rename(filepath.Dir(s.layerDir(id)), filepath.Join(s.root, "tmp", damagedPrefix+randomName()))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop damaged layer %s: %w", id, err)
	}
	return nil
}

// damagedPrefix begins the names in tmp of layers that were moved away.
const damagedPrefix = "damaged-"

// place seals the layer below dir, completes the layer over if that is not empty, and makes it the layer id by one rename. Where
// somebody else made it meanwhile, theirs stays and placed is false.
func (s *Snapshots) place(dir, id, over string) (placed bool, err error) {
	if over != "" {
		if err := os.WriteFile(filepath.Join(dir, "over"), []byte(over), 0o600); err != nil {
			return false, err
		}
	}
	q, err := newSeal(dir, over)
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(filepath.Join(dir, "seal"), q.encode(id), 0o600); err != nil {
		return false, err
	}
	target := filepath.Dir(s.layerDir(id))
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return false, err
	}
	err = os.Rename(dir, target)
	if exists(err) {
		if _, err := s.vouch(id); err == nil {
			return false, nil
		} else if d := new(Damaged); !errors.As(err, &d) {
			return false, err
		}
		// What was there is half of a layer, and is out of the way.
		err = os.Rename(dir, target)
	}
	if err != nil {
		return false, err
	}
	v := &vouched{over: over}
	v.once.Do(func() {})
	s.mu.Lock()
	s.vouched[id] = v
	s.mu.Unlock()
	s.sealContent(id, q)
	return true, nil
}

func exists(err error) bool { return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) }

// Adopt makes the folder dir, with the files of a layer in its folder fs, the layer id by one rename. Where there is one already,
// dir stays with the caller.
func (s *Snapshots) Adopt(dir, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	if _, err := s.place(dir, id, ""); err != nil {
		return fmt.Errorf("commit layer %s: %w", id, err)
	}
	return nil
}

// sealContent digests the content of a layer beside what follows, on a thread that gives way to all others. [Snapshots.Close] waits
// for it. What goes wrong leaves the seal as it is.
func (s *Snapshots) sealContent(id string, q seal) {
	s.tidying.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
		content, err := contentDigest(context.Background(), s.layerDir(id))
		if err == nil {
			q.content = content
			_ = s.writeSeal(id, q)
		}
	})
}

func (s *Snapshots) writeSeal(id string, q seal) error {
	temp := s.sealFile(id) + randomName() // beside it: a trim takes it with the layer
	err := os.WriteFile(temp, q.encode(id), 0o600)
	if err == nil {
		err = os.Rename(temp, s.sealFile(id))
	}
	if err != nil {
		os.Remove(temp)
		return fmt.Errorf("seal layer %s: %w", id, err)
	}
	return nil
}
