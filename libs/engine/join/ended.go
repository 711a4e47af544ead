package join

import (
	"context"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
)

// ended is what is left of a transaction for who has committed it: the engine's is its member's.
type ended struct{ version uint64 }

var (
	_ engine.Txn      = ended{}
	_ engine.Iterator = endedScan{}
)

var errEnded = fmt.Errorf("join: the transaction has ended: %w", engine.ErrClosed)

// Version implements engine.Reader.
func (t ended) Version() uint64 { return t.version }

// Get implements engine.Reader.
func (ended) Get(context.Context, []byte) ([]byte, error) { return nil, errEnded }

// GetMany implements engine.Reader.
func (ended) GetMany(context.Context, [][]byte) ([][]byte, error) { return nil, errEnded }

// Scan implements engine.Reader.
func (ended) Scan(context.Context, engine.Range) engine.Iterator { return endedScan{} }

// Commit implements engine.Txn.
func (ended) Commit(context.Context) (engine.Pending, error) { return nil, errEnded }

// What changes an ended transaction, or ends it, does nothing.

// Set implements engine.Txn.
func (ended) Set(_, _ []byte) {}

// Clear implements engine.Txn.
func (ended) Clear([]byte) {}

// ClearRange implements engine.Txn.
func (ended) ClearRange(_, _ []byte) {}

// SetStampedKey implements engine.Txn.
func (ended) SetStampedKey([]byte, int, []byte) {}

// SetStampedValue implements engine.Txn.
func (ended) SetStampedValue(_, _ []byte, _ int) {}

// Add implements engine.Txn.
func (ended) Add([]byte, int64) {}

// UseStamps implements engine.Txn.
func (ended) UseStamps(int) {}

// AddReadConflict implements engine.Txn.
func (ended) AddReadConflict(_, _ []byte) {}

// AddWriteConflict implements engine.Txn.
func (ended) AddWriteConflict(_, _ []byte) {}

// Discard implements engine.Txn.
func (ended) Discard() {}

// endedScan is a scan of such a transaction.
type endedScan struct{}

// Next implements engine.Iterator.
func (endedScan) Next() bool { return false }

// Key implements engine.Iterator.
func (endedScan) Key() []byte { return nil }

// Value implements engine.Iterator.
func (endedScan) Value() []byte { return nil }

// Err implements engine.Iterator.
func (endedScan) Err() error { return errEnded }

// Close implements engine.Iterator.
func (endedScan) Close() error { return errEnded }
