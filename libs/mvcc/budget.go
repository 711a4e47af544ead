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

// errHeavy is what the evaluation of a request ends with that has visited too much for a group with others.
var errHeavy = errors.New("mvcc: too much for a group with others")

// errGone says that nobody waits for the request that is being evaluated.
var errGone = errors.New("mvcc: the client has gone")

// budget is what the request under evaluation may still visit.
type budget struct {
	left  int
	over  error // what exceeding it ends with
	looks int
	ctx   context.Context // of the request
	ended *atomic.Bool    // set when nobody waits for it any more; nil: the context tells all
	// answer is told of the bytes of results before they are gathered; nil: nobody counts. told is how many it has
	// been told of: what is evaluated again counts once.
	answer   Hold
	gathered int
	told     *int

	deletes deletes // what the request is to delete
	pace    *pace   // of its group
}

// Hold is told of bytes of results before they are gathered in memory. It must not wait when it belongs to a request
// that writes. Its error ends the request, which has then changed nothing.
type Hold func(bytes int) error

// allowance is what a request may visit, and what exceeding it ends with.
type allowance struct {
	rows int
	over error
}

// fullAllowance is that of a request that has no group with others to leave.
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

// spend counts a row that has been visited, and bytes of a value that are read for it. Errors: a refusal or errHeavy,
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

// refusal is an error that ends the request under evaluation although it may have changed the group, which is
// evaluated again without it.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// refused returns what a refusal is made of, and any other error as it is.
func refused(err error) error {
	var r refusal
	if errors.As(err, &r) {
		return r.error
	}
	return err
}

// loadBytesMax bounds the values that a group reads before it knows whether it needs them.
const loadBytesMax = 16 << 20

// affordable returns those of the first states whose values may be read in advance.
func affordable(states []*keyState) []*keyState {
	sum := 0
	for i, st := range states {
		if sum += st.rec.size; sum > loadBytesMax {
			return states[:i]
		}
	}
	return states
}
