//go:build foundationdb && publicapi

package foundationdb

import "github.com/apple/foundationdb/bindings/go/src/fdb"

// awaited stands for what the binding does not show: the wait for a batch is not ended by its caller's context then,
// nor by Options.Timeout, but by the client library alone.
func awaited(*fdb.RangeIterator) fdb.Future { return nil }

// arrived is 1: rows are taken one by one, and the next batch is asked for when the last has been taken.
func arrived(*fdb.RangeIterator) int { return 1 }
