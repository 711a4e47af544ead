//go:build foundationdb

package foundationdb

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
)

// What Apple's binding has but does not show. It holds for the version in go.mod; TestHidden and init look after it.

// optionFirstInBatch is FDBTransactionOptions::FIRST_IN_BATCH, which is marked hidden in fdb.options, so that bindings
// have no method for it: "No other transactions will be applied before this transaction within the same commit version."
const optionFirstInBatch = 710

// setOption is the setter behind all of TransactionOptions' methods. (hidden.s lets the compiler accept a function without a body.)
//
//go:linkname setOption github.com/apple/foundationdb/bindings/go/src/fdb.TransactionOptions.setOpt
func setOption(opt fdb.TransactionOptions, code int, param []byte) error

// Fields of RangeIterator: the batch that is being waited for, nil if none is, and the rows of the last one. Without the first
// a wait could only be ended by cancelling the whole transaction, without the second the next batch could not be
// asked for before the caller has gone through this one.
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
