package inode

import (
	"reflect"
	"strings"
	"testing"
)

func TestRecordText(t *testing.T) {
	full := record{
		owner: &change[[2]int]{want: [2]int{1000, 1001}, real: [2]int{0, 0}},
		mode:  &change[uint32]{want: 0o4755, real: 0o755},
		node:  &node{TypeChar, 1, 3},
		caps:  "\x01\xff",
	}
	const want = "1 owner=1000:1001,0:0 mode=4755,755 type=20000:1:3 caps=01ff"
	if full.String() != want {
		t.Errorf("got %q, want %q", full, want)
	}
	if got, err := parseRecord(want); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestBadRecords(t *testing.T) {
	for _, text := range []string{
		"", "2", "2 owner=1:1,1:1", "1 owner=1", "1 owner=1:1:1:1:1", "1 owner=-1:0,0:0", "1 mode=9,9", "1 mode=755",
		"1 type=100000:0:0", "1 type=20000", "1 caps=0", "1 caps=xx", "1 size=1", "1  owner=1:1,1:1",
		"1 owner=4294967296:0,0:0", "1 caps=" + strings.Repeat("00", 300),
	} {
		if r, err := parseRecord(text); err == nil {
			t.Errorf("%q: %+v, no error", text, r)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("1 owner=1000:1000,0:0 mode=4755,755 type=20000:1:3 caps=01ff")
	f.Add("1")
	f.Add("1 owner=::,")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRecord(text)
		if err != nil {
			return
		}
		i := Info{Mode: TypeFile | 0o644}
		r.apply(&i)
		if i.UID < 0 || i.GID < 0 {
			t.Errorf("%q: owner %d:%d", text, i.UID, i.GID)
		}
		again, err := parseRecord(r.String())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%q -> %+v -> %q -> %+v, %v", text, r, r, again, err)
		}
	})
}
