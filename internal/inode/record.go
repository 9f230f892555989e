package inode

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// RecordXattr is the extended attribute that holds the record of a regular file or directory.
const RecordXattr = "user.skiff.inode"

// recordLimit bounds the length of a record in bytes. The longest one that Set writes is about 150;
// a file capability has at most 24 bytes.
const recordLimit = 512

// record is what a file cannot hold itself. As text: the version and then one word for each part that
// is set, for example
//
//	1 owner=1000:1000,0:0 mode=4755,755 type=20000:1:3 caps=0100000200040000...
//
// Owner and mode come with what the file really had when the record was written. When that has changed
// since, somebody chowned or chmodded the file, and that part of the record is void.
type record struct {
	owner *change[[2]int] // uid, gid
	mode  *change[uint32] // permission bits, octal
	node  *node           // set on a placeholder
	caps  string          // raw value of [CapabilityXattr]
}

type change[T any] struct{ want, real T }

// node is what a placeholder stands for: the type in octal, and the device number.
type node struct{ typ, major, minor uint32 }

func (r record) empty() bool {
	return r.owner == nil && r.mode == nil && r.node == nil && r.caps == ""
}

func (r record) String() string {
	var b strings.Builder
	b.WriteString("1")
	if o := r.owner; o != nil {
		fmt.Fprintf(&b, " owner=%d:%d,%d:%d", o.want[0], o.want[1], o.real[0], o.real[1])
	}
	if m := r.mode; m != nil {
		fmt.Fprintf(&b, " mode=%o,%o", m.want, m.real)
	}
	if n := r.node; n != nil {
		fmt.Fprintf(&b, " type=%o:%d:%d", n.typ, n.major, n.minor)
	}
	if r.caps != "" {
		fmt.Fprintf(&b, " caps=%x", r.caps)
	}
	return b.String()
}

// parseRecord is the inverse of String. The text is untrusted.
func parseRecord(s string) (record, error) {
	var r record
	if len(s) > recordLimit {
		return r, fmt.Errorf("inode record: %d bytes, more than %d", len(s), recordLimit)
	}
	version, rest, _ := strings.Cut(s, " ")
	if version != "1" {
		return r, fmt.Errorf("inode record: unknown version in %q", s)
	}
	for rest != "" {
		var word string
		word, rest, _ = strings.Cut(rest, " ")
		key, value, _ := strings.Cut(word, "=")
		if err := r.parsePart(key, value); err != nil {
			return record{}, fmt.Errorf("inode record: %q: %w", word, err)
		}
	}
	return r, nil
}

func (r *record) parsePart(key, value string) error {
	switch key {
	case "owner":
		n, err := parseNumbers(strings.Replace(value, ",", ":", 1), 10, 10, 10, 10)
		if err != nil {
			return err
		}
		r.owner = &change[[2]int]{want: [2]int{int(n[0]), int(n[1])}, real: [2]int{int(n[2]), int(n[3])}}
	case "mode":
		n, err := parseNumbers(strings.Replace(value, ",", ":", 1), 8, 8)
		if err != nil {
			return err
		}
		r.mode = &change[uint32]{want: n[0] & PermMask, real: n[1] & PermMask}
	case "type":
		n, err := parseNumbers(value, 8, 10, 10)
		if err != nil {
			return err
		}
		if !isSpecial(n[0]) {
			return fmt.Errorf("no placeholder stands for type %o", n[0])
		}
		r.node = &node{n[0], n[1], n[2]}
	case "caps":
		b, err := hex.DecodeString(value)
		if err != nil {
			return err
		}
		r.caps = string(b)
	default:
		return fmt.Errorf("unknown part")
	}
	return nil
}

// parseNumbers reads as many numbers of 32 bits as there are bases, separated by colons.
func parseNumbers(s string, bases ...int) ([]uint32, error) {
	words := strings.Split(s, ":")
	if len(words) != len(bases) {
		return nil, fmt.Errorf("%d numbers, want %d", len(words), len(bases))
	}
	numbers := make([]uint32, len(words))
	for i, w := range words {
		n, err := strconv.ParseUint(w, bases[i], 32)
		if err != nil {
			return nil, err
		}
		numbers[i] = uint32(n)
	}
	return numbers, nil
}

// apply corrects i, which holds what lstat said of a regular file or directory.
func (r record) apply(i *Info) {
	if o := r.owner; o != nil && o.real == [2]int{i.UID, i.GID} {
		i.UID, i.GID = o.want[0], o.want[1]
	}
	if m := r.mode; m != nil && m.real == i.Perm() {
		i.Mode = i.Type() | m.want
	}
	// Somebody who wrote into a placeholder has a regular file.
	if n := r.node; n != nil && i.IsRegular() && i.Size == 0 {
		i.Mode = n.typ | i.Perm()
		if isDevice(n.typ) {
			i.Major, i.Minor = n.major, n.minor
		}
	}
	if r.caps != "" && i.IsRegular() {
		i.Xattrs = map[string]string{CapabilityXattr: r.caps}
	}
}

// The record of a symlink's owner in its modification time. Times before 2106 are real ones.
const (
	linkRecord  = 1 << 32 // seconds; the gid is added
	linkUIDEnd  = 1e9     // uids are nanoseconds, so below
	linkTimeMax = linkRecord - 1
)

// linkOwner returns the owner that a symlink's modification time holds.
func linkOwner(sec, nsec int64) (uid, gid int, ok bool) {
	if sec < linkRecord || sec > linkRecord+1<<32-1 {
		return 0, 0, false
	}
	return int(nsec), int(sec - linkRecord), true
}
