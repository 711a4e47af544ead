//go:build foundationdb && !publicapi

package foundationdb

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
)

// Fields of RangeIterator: the batch that is being waited for, nil if none is, and the rows of the last one. Without
// the first a wait could only be ended by cancelling the whole transaction, without the second the next batch could
// not be asked for before the caller has gone through this one.
var (
	iteratorFuture = iteratorField("f", nil)
	iteratorRows   = iteratorField("kvs", reflect.TypeFor[[]fdb.KeyValue]())
)

func iteratorField(name string, t reflect.Type) reflect.StructField {
	f, ok := reflect.TypeFor[fdb.RangeIterator]().FieldByName(name)
	if !ok || t != nil && f.Type != t || t == nil && !f.Type.Implements(reflect.TypeFor[fdb.Future]()) {
		panic(fmt.Sprintf("foundationdb: RangeIterator.%s of the Go binding is not what it was: %v", name, f.Type))
	}
	return f
}

// awaited returns the batch that it is waiting for, nil if none.
func awaited(it *fdb.RangeIterator) fdb.Future {
	v := reflect.NewAt(iteratorFuture.Type, unsafe.Add(unsafe.Pointer(it), iteratorFuture.Offset)).Elem()
	if v.IsNil() {
		return nil
	}
	return v.Interface().(fdb.Future)
}

// arrived returns how many rows the batch has that Advance took.
func arrived(it *fdb.RangeIterator) int {
	return len(*(*[]fdb.KeyValue)(unsafe.Add(unsafe.Pointer(it), iteratorRows.Offset)))
}
