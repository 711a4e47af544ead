//go:build foundationdb && publicapi

package foundationdb

import "github.com/apple/foundationdb/bindings/go/src/fdb"

// awaited returns nil, because the binding does not export the batch. Only the client library then ends the wait for a
// batch, neither the caller's context nor Options.Timeout.
func awaited(*fdb.RangeIterator) fdb.Future { return nil }

// arrived returns 1: rows are taken one by one, and the next batch is requested when the last row has been taken.
func arrived(*fdb.RangeIterator) int { return 1 }
