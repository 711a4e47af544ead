package engine

import (
	"context"
	"errors"
)

// Class is what an error of an engine means for whoever met it. There is one list of classes, this one, so that all
// callers agree on what may be tried again and what may not.
type Class int

// The classes, in the order in which ClassOf looks for them: an error that wraps several has the first.
const (
	NoError        Class = iota
	Ended                // the caller's context has ended; of a commit: its outcome is open
	Closed               // ErrClosed
	Damaged              // ErrDamaged
	TooLarge             // ErrTooLarge
	NoSpace              // ErrNoSpace
	UnknownOutcome       // ErrUnknownOutcome
	Unavailable          // ErrUnavailable
	Conflict             // ErrConflict
	TooOld               // ErrTooOld
	Other                // none of these: a wrong call, or an error of somebody else
)

var classes = []struct {
	err   error
	class Class
}{
	{context.Canceled, Ended},
	{context.DeadlineExceeded, Ended},
	{ErrClosed, Closed},
	{ErrDamaged, Damaged},
	{ErrTooLarge, TooLarge},
	{ErrNoSpace, NoSpace},
	{ErrUnknownOutcome, UnknownOutcome},
	{ErrUnavailable, Unavailable},
	{ErrConflict, Conflict},
	{ErrTooOld, TooOld},
}

// ClassOf returns the class of an error.
func ClassOf(err error) Class {
	if err == nil {
		return NoError
	}
	for _, c := range classes {
		if errors.Is(err, c.err) {
			return c.class
		}
	}
	return Other
}

// String is for messages.
func (c Class) String() string {
	return [...]string{
		"no error", "ended", "closed", "damaged", "too large", "no space", "unknown outcome", "unavailable",
		"conflict", "too old", "other",
	}[c]
}

// Rerun says that nothing has happened and a new transaction, or a new reader, may well succeed at once.
func (c Class) Rerun() bool { return c == Conflict || c == TooOld }

// RerunIdempotent is Rerun for a transaction that may be run again after it has been committed: an unknown outcome is
// no obstacle then.
func (c Class) RerunIdempotent() bool { return c.Rerun() || c == UnknownOutcome }

// Passes says that the failure may pass with time and without anybody's help: what RerunIdempotent says, and a store
// that cannot be reached. After an unknown outcome only what is idempotent may be run again.
func (c Class) Passes() bool { return c.RerunIdempotent() || c == Unavailable }

// Refusal says that nothing has happened and the same transaction will be refused again, at least until somebody
// makes room.
func (c Class) Refusal() bool { return c == TooLarge || c == NoSpace }
