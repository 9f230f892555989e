package store

import (
	"crypto/sha256"
	"encoding"
	"hash"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Of a large blob that others are composed of, the state of the hash after each stride is kept, in a record that has the blob's digest
// as its key. A blob that begins with the same bytes is digested from the last stride on that they share. The states come from a pass
// that ended in the blob's digest, so they are true of its content wherever it lies; what lies there is not read for it.

const (
	stateStride = 8 << 20
	statesFrom  = 32 << 20 // bytes of a blob; below, there is little to gain
)

// resumable is a sha256 that notes its states.
type resumable struct {
	hash.Hash
	n      int64
	states []byte // of stateSize bytes each
}

// stateSize is how many bytes a state takes (crypto/sha256).
var stateSize = len(stateOf(&resumable{Hash: sha256.New()}))

func stateOf(r *resumable) []byte {
	b, err := r.Hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err) // documented to have none
	}
	return b
}

func (r *resumable) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		k := min(int64(len(rest)), stateStride-r.n%stateStride)
		r.Hash.Write(rest[:k])
		if r.n, rest = r.n+k, rest[k:]; r.n%stateStride == 0 {
			r.states = append(r.states, stateOf(r)...)
		}
	}
	return len(b), nil
}

// keep writes the record for the blob h, whose bytes have all been written to r. Without it the next one takes longer.
func (r *resumable) keep(s *Store, h v1.Hash) {
	_ = s.PutData(kindStates, blobKey(h), struct{}{}, r.states)
}

// resume returns a sha256 of the first at bytes of the blob h, which are as many as are known up to n.
func (s *Store) resume(h v1.Hash, n int64) (sum hash.Hash, at int64) {
	sum = sha256.New()
	data, err := s.GetData(kindStates, blobKey(h))
	if err != nil {
		return sum, 0
	}
	i := int(min(n/stateStride, int64(len(data)/stateSize)))
	if i == 0 || sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(data[(i-1)*stateSize:i*stateSize]) != nil {
		return sha256.New(), 0
	}
	return sum, int64(i) * stateStride
}
