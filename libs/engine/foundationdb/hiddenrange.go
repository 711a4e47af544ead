//go:build foundationdb && !publicapi

package foundationdb

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
)

// Fields of RangeIterator: the batch that is being waited for, nil if there is none, and the rows of the last batch.
// Without the first field, a wait could only be ended by cancelling the whole transaction. Without the second, the next
// batch could be requested only after the caller has gone through this one.
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

// awaited returns the batch that the iterator is waiting for; nil if there is none.
func awaited(it *fdb.RangeIterator) fdb.Future {
	v := reflect.NewAt(iteratorFuture.Type, unsafe.Add(unsafe.Pointer(it), iteratorFuture.Offset)).Elem()
	if v.IsNil() {
		return nil
	}
	return v.Interface().(fdb.Future)
}

// arrived returns the number of rows in the batch that Advance took.
func arrived(it *fdb.RangeIterator) int {
	return len(*(*[]fdb.KeyValue)(unsafe.Add(unsafe.Pointer(it), iteratorRows.Offset)))
}
