package mvcc

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Damaged data means rows that the engine cannot read, and rows that do not decode. A request that meets them gets an
// ErrCorrupt at once, without a retry. Others are not affected: a group leaves out the requests that need the damaged
// rows (see group.load and lane.sidestep). All damage is reported to Options.OnDamage, also that which background work
// meets.

// Damage is an ErrCorrupt that says what could not be read.
type Damage struct { //nolint:errname // what Options.OnDamage is told
	What string // what the request asked for; it has nothing that the client does not know
	Err  error
}

// Error implements error.
func (d *Damage) Error() string { return fmt.Sprintf("%v: %s: %v", ErrCorrupt, d.What, d.Err) }

// Is says that a Damage is an ErrCorrupt, here and for readers of the log.
func (d *Damage) Is(target error) bool { return target == ErrCorrupt || target == revlog.ErrCorrupt }

// Unwrap returns the cause.
func (d *Damage) Unwrap() error { return d.Err }

// File returns the name of the engine's damaged file, or "" if it is not known or if a row does not decode.
func (d *Damage) File() string {
	if e, ok := errors.AsType[*engine.Damage](d.Err); ok {
		return e.File
	}
	return ""
}

// isDamage says whether err means that data cannot be read or decoded.
func isDamage(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, engine.ErrDamaged) || errors.Is(err, revlog.ErrCorrupt)
}

// wanted adds to an error about damage what was asked for: a request, or words. Other errors stay unchanged.
func wanted(what any, err error) error {
	if err == nil || !isDamage(err) {
		return err
	}
	return &Damage{What: words(what), Err: err}
}

// noted reports damage that was met. It returns err.
func (s *Store) noted(err error) error {
	if err != nil && isDamage(err) {
		s.usage.Damaged.Add(1)
		if s.o.OnDamage != nil {
			s.o.OnDamage(err)
		}
	}
	return err
}

// Limits of the words: the keys and ranges of a transaction that are named, and the bytes of a key.
const (
	wordsMax    = 3
	wordKeyMax  = 64
	wordsNobody = "rows of the keyspace's own"
)

// words describes what a request asks for.
func words(what any) string {
	switch r := what.(type) {
	case string:
		return r
	case *RangeRequest:
		return keysOf(r.Key, r.End)
	case *PutRequest:
		return keysOf(r.Key, nil)
	case *DeleteRequest:
		return keysOf(r.Key, r.End)
	case *TxnRequest:
		f := conflictSet{}
		f.addTxn(r)
		return f.words()
	case *leaseGrant:
		return leaseOf(r.id)
	case *leaseRevoke:
		return leaseOf(r.id) + " or its keys"
	case *leaseEnd:
		return leaseOf(r.id)
	case *leaseStep:
		return leaseOf(r.id) + " or its keys"
	}
	return wordsNobody
}

func leaseOf(id int64) string { return "lease " + strconv.FormatInt(id, 16) }

func logFrom(rev int64) string { return fmt.Sprintf("the history at or after revision %d", rev) }

// keysOf names a key or a range.
func keysOf(key, end []byte) string {
	switch {
	case single(end):
		return "key " + quoted(key)
	case toEnd(end):
		return "a key from " + quoted(key) + " on"
	}
	return "a key from " + quoted(key) + " to " + quoted(end)
}

// words describes what a transaction may have read.
func (f *conflictSet) words() string {
	var names []string
	keys := slices.Compact(slices.Sorted(slices.Values(f.keys)))
	for _, k := range keys[:min(len(keys), wordsMax)] {
		names = append(names, keysOf([]byte(k), nil))
	}
	for _, r := range f.ranges {
		if len(names) == wordsMax {
			break
		}
		names = append(names, keysOf(r.key, r.end))
	}
	text := strings.Join(names, " or ")
	if more := len(keys) + len(f.ranges) - len(names); more > 0 {
		text += fmt.Sprintf(" or one of %d more", more)
	}
	return text
}

func quoted(key []byte) string {
	if len(key) > wordKeyMax {
		return strconv.Quote(string(key[:wordKeyMax])) + "…"
	}
	return strconv.Quote(string(key))
}

// hit is the error of a request that has met damage after it had changed its group. The group cannot be committed.
type hit struct {
	index int // of the request
	err   error
}

// Error implements error.
func (h *hit) Error() string { return h.err.Error() }

// Unwrap returns the error with which the request is answered.
func (h *hit) Unwrap() error { return h.err }
