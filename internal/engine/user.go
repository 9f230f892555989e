package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/skiff-build/skiff/internal/inode"
)

// maxUserFile bounds what is read of /etc/passwd and /etc/group, in bytes, as BuildKit does (executor/oci/user.go).
const maxUserFile = 10 << 20

// findUser finds the ids for NAME, UID, NAME:GROUP or UID:GID in the files of the root, with the supplementary groups of
// a user that is named. Two numbers need no files. Empty is root.
func findUser(t inode.Tree, name string) (specs.User, error) {
	if name == "" {
		name = "0"
	}
	if u, ok := numericUser(name); ok {
		return u, nil
	}
	passwd, err := userFile(t, "/etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	group, err := userFile(t, "/etc/group")
	if err != nil {
		return specs.User{}, err
	}
	found, err := user.GetExecUser(name, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		if name == "0" {
			return specs.User{AdditionalGids: []uint32{0}}, nil
		}
		return specs.User{}, fmt.Errorf("user %s: %w", name, err)
	}
	return withGroups(uint32(found.Uid), uint32(found.Gid), found.Sgids), nil
}

func numericUser(name string) (specs.User, bool) {
	uid, gid, ok := strings.Cut(name, ":")
	if !ok {
		return specs.User{}, false
	}
	var ids [2]uint32
	for i, s := range []string{uid, gid} {
		n, err := strconv.ParseUint(s, 10, 32)
		if s != "root" && (err != nil || n == math.MaxUint32) {
			return specs.User{}, false
		}
		ids[i] = uint32(n)
	}
	return withGroups(ids[0], ids[1], nil), true
}

// withGroups lists the user's own group among the others, first, as containerd does.
func withGroups(uid, gid uint32, more []int) specs.User {
	u := specs.User{UID: uid, GID: gid, AdditionalGids: []uint32{gid}}
	for _, g := range more {
		if !slices.Contains(u.AdditionalGids, uint32(g)) {
			u.AdditionalGids = append(u.AdditionalGids, uint32(g))
		}
	}
	return u
}

// userFile reads a file of the root. One that is missing is empty, and so is what is no regular file.
func userFile(t inode.Tree, path string) ([]byte, error) {
	name, err := inode.Resolve(t, path, true)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := t.Lstat(name)
	if err != nil || !info.IsRegular() {
		return nil, err
	}
	r, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxUserFile+1))
	if err == nil && len(data) > maxUserFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxUserFile)
	}
	return data, err
}
