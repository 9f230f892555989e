package fileop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/buildkit/solver/pb"
	"github.com/skiff-build/skiff/internal/inode"
)

// owner is the owner that an action asks for. A nil one leaves sources as they are.
type owner struct{ uid, gid int }

// userFileLimit bounds passwd and group in bytes, as in BuildKit.
const userFileLimit = 10 << 20

// readOwner looks an owner up as BuildKit does (solver/llbsolver/ops/user_linux.go): a user's name gives
// its primary group too, an id alone is user and group, an unknown name is 0:0, and so is one in a tree
// without passwd; but where there is no tree at all a name is an error.
func readOwner(opt *pb.ChownOpt, users inode.Tree) (*owner, error) {
	if opt == nil {
		return nil, nil
	}
	o := &owner{}
	switch u := opt.GetUser().GetUser().(type) {
	case *pb.UserOpt_ByID:
		o.uid, o.gid = int(u.ByID), int(u.ByID)
	case *pb.UserOpt_ByName:
		fields, err := lookup(users, "etc/passwd", u.ByName, 4)
		if err != nil {
			return nil, fmt.Errorf("owner %s: %w", u.ByName.GetName(), err)
		}
		if fields != nil {
			o.uid, o.gid = atoi(fields[2]), atoi(fields[3])
		}
	}
	switch g := opt.GetGroup().GetUser().(type) {
	case *pb.UserOpt_ByID:
		o.gid = int(g.ByID)
	case *pb.UserOpt_ByName:
		fields, err := lookup(users, "etc/group", g.ByName, 3)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", g.ByName.GetName(), err)
		}
		if fields != nil {
			o.gid = atoi(fields[2])
		}
	}
	return o, nil
}

// lookup returns the first line of a passwd or group file that begins with the name, padded to n fields;
// nil when there is none.
func lookup(users inode.Tree, file string, user *pb.NamedUserOpt, n int) ([]string, error) {
	if users == nil || user == nil || user.Input < 0 {
		return nil, errors.New("a stage from scratch knows no names, use numbers")
	}
	at, err := inode.Resolve(users, file, true)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := users.Open(at)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, userFileLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", file, err)
	}
	if len(data) > userFileLimit {
		return nil, fmt.Errorf("/%s exceeds %d bytes", file, userFileLimit)
	}
	for line := range bytes.Lines(data) {
		fields := strings.Split(strings.TrimSpace(string(line)), ":")
		if fields[0] == user.Name && user.Name != "" {
			return append(fields, make([]string, n)...), nil
		}
	}
	return nil, nil
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// atoi reads an id; what is none counts as 0, as in moby/sys/user.
func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
