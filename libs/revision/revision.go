package revision

import (
	"errors"
	"fmt"
	"math"

	"github.com/headwaterdb/headwater/libs/engine"
)

// ShiftMax is the largest number of index bits: 2^12 mutating requests per commit.
const ShiftMax = 12

// ErrShift: a Space was asked for with more than ShiftMax index bits.
var ErrShift = errors.New("revision: shift out of range")

// Space is the bijection between the stamps of a keyspace and its revisions (docs/design.md I2):
//
//	revision = (version − Base) << Shift | index
//
// Base is signed so that a keyspace created at version v may start at any revision. A Space is immutable; its methods
// are pure.
type Space struct {
	Base  int64
	Shift uint
}

// New checks shift and returns the Space.
func New(base int64, shift uint) (Space, error) {
	if shift > ShiftMax {
		return Space{}, fmt.Errorf("%w: %d > %d", ErrShift, shift, ShiftMax)
	}
	return Space{Base: base, Shift: shift}, nil
}

// GroupMax returns how many requests of one commit can be told apart: 2^Shift.
func (s Space) GroupMax() int { return 1 << s.Shift }

// Of returns the revision of a stamp.
func (s Space) Of(st engine.Stamp) int64 {
	return (int64(st.Version)-s.Base)<<s.Shift | int64(st.Index)
}

// Stamp returns the stamp of a revision. It is the inverse of Of for every revision that Of can return. For any other
// int64 it returns a stamp that compares with real stamps as the revision compares with real revisions, so that it can
// serve as a bound. A revision before the first stamp gives the zero stamp, and one beyond the last gives the largest.
func (s Space) Stamp(rev int64) engine.Stamp {
	v := rev >> s.Shift
	switch {
	case s.Base > 0 && v > math.MaxInt64-s.Base:
		return engine.Stamp{Version: math.MaxUint64, Index: math.MaxUint16}
	case rev < 0 || v+s.Base < 0:
		return engine.Stamp{}
	}
	return engine.Stamp{Version: uint64(v + s.Base), Index: uint16(rev & (1<<s.Shift - 1))}
}
