package mvcc

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Limits of what the evaluation of one request may visit. A row counts as one, and its value as one for each rowWorth
// bytes that are read for it.
const (
	// requestRowsMax bounds one request: more than a delete of a million keys, and what a scan in memory does in
	// about two seconds.
	requestRowsMax = 4 << 20
	// lightRowsMax is what a request may visit in a group with others: about a millisecond. One that needs more goes
	// to the heavy lane.
	lightRowsMax = 2048
	rowWorth     = 4 << 10
	// goneEvery is how many rows lie between two looks at whether the client still waits.
	goneEvery = 256
)

// errHeavy ends the evaluation of a request that has visited too much for a group with others.
var errHeavy = errors.New("mvcc: too much for a group with others")

// errGone ends the evaluation of a request for which nobody waits any more.
var errGone = errors.New("mvcc: the client has gone")

// budget is what the request under evaluation may still visit.
type budget struct {
	left  int
	over  error // the error when it is exceeded
	looks int
	ctx   context.Context // of the request
	ended *atomic.Bool    // set when nobody waits for it any more; nil: only the context says so
	// answer is called with the bytes of results before they are gathered; nil: nobody counts. told is the number of
	// bytes that it has got, so that a repeated evaluation counts once.
	answer   Hold
	gathered int
	told     *int

	deletes deletes // what the request is to delete
	pace    *pace   // of its group
}

// Hold is called with the bytes of results before they are gathered in memory. If the request writes, Hold must not
// wait. Its error ends the request, which then changes nothing.
type Hold func(bytes int) error

// allowance is what a request may visit, and the error when it visits more.
type allowance struct {
	rows int
	over error
}

// fullAllowance is the allowance of a request that cannot leave its group.
func (s *Store) fullAllowance() allowance {
	return allowance{s.o.RequestRows, refusal{storeErr(engine.ErrTooLarge)}}
}

// budgetOf begins the budget of a request in a group.
func (g *group) budgetOf(r *request) {
	g.budget = budget{
		left: g.allow.rows, over: g.allow.over, ctx: r.ctx, ended: &r.ended,
		answer: holdOf(r.m), told: &r.told, pace: g.pace,
	}
}

func holdOf(m mutation) Hold {
	switch r := m.(type) {
	case *TxnRequest:
		return r.Hold
	case *DeleteRequest:
		return r.Hold
	case *PutRequest:
		return r.Hold
	}
	return nil
}

// spend counts a row that has been visited, and bytes of a value that are read for it. Errors: a refusal, errHeavy, or
// errGone.
func (b *budget) spend(bytes int) error {
	rows := 1 + bytes/rowWorth
	if b.left -= rows; b.left < 0 {
		return b.over
	}
	if err := b.pace.spend(rows); err != nil {
		return err
	}
	if b.looks++; b.looks%goneEvery == 0 && (b.ctx.Err() != nil || b.ended != nil && b.ended.Load()) {
		return errGone
	}
	return nil
}

// gather counts bytes of the answer.
func (b *budget) gather(bytes int) error {
	b.gathered += bytes
	if b.answer == nil || b.gathered <= *b.told {
		return nil
	}
	if err := b.answer(b.gathered - *b.told); err != nil {
		return refusal{err}
	}
	*b.told = b.gathered
	return nil
}

// refusal is an error that ends the request under evaluation although the request may have changed the group. The group
// is then evaluated again without it.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// refused returns the error inside a refusal, and any other error unchanged.
func refused(err error) error {
	var r refusal
	if errors.As(err, &r) {
		return r.error
	}
	return err
}

// loadBytesMax bounds the values that a group reads before it knows whether it needs them.
const loadBytesMax = 16 << 20

// affordable returns the first states, as many as may have their values read in advance.
func affordable(states []*keyState) []*keyState {
	sum := 0
	for i, st := range states {
		if sum += st.rec.size; sum > loadBytesMax {
			return states[:i]
		}
	}
	return states
}
