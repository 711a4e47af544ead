package engine

import (
	"context"
	"errors"
)

// Class is what an error of an engine means for the caller. There is one list of classes, so that all callers agree on
// what may be tried again and what may not.
type Class int

// The classes, in the order in which ClassOf looks for them: an error that wraps several errors has the first.
const (
	NoError        Class = iota
	Ended                // the caller's context has ended; the outcome of a commit is then open
	Closed               // ErrClosed
	Damaged              // ErrDamaged
	TooLarge             // ErrTooLarge
	NoSpace              // ErrNoSpace
	UnknownOutcome       // ErrUnknownOutcome
	Unavailable          // ErrUnavailable
	Conflict             // ErrConflict
	TooOld               // ErrTooOld
	Other                // none of these: a wrong call, or an error from elsewhere
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

// String returns the name of the class for messages.
func (c Class) String() string {
	return [...]string{
		"no error", "ended", "closed", "damaged", "too large", "no space", "unknown outcome", "unavailable",
		"conflict", "too old", "other",
	}[c]
}

// Rerun reports whether nothing has happened and a new transaction or reader may succeed at once.
func (c Class) Rerun() bool { return c == Conflict || c == TooOld }

// RerunIdempotent is Rerun for a transaction that may be run again after it has been committed. An unknown outcome does
// not prevent a new run then.
func (c Class) RerunIdempotent() bool { return c.Rerun() || c == UnknownOutcome }

// Passes reports whether the failure may pass with time and without help: the cases of RerunIdempotent, and a store
// that cannot be reached. After an unknown outcome only an idempotent transaction may be run again.
func (c Class) Passes() bool { return c.RerunIdempotent() || c == Unavailable }

// Refusal reports whether nothing has happened and the same transaction will be refused again, at least until there is
// more room.
func (c Class) Refusal() bool { return c == TooLarge || c == NoSpace }
