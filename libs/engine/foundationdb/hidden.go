//go:build foundationdb

package foundationdb

import (
	_ "unsafe" // for linkname

	"github.com/apple/foundationdb/bindings/go/src/fdb"
)

// What Apple's binding has but does not show, and there is no doing without. It holds for the version in go.mod; a
// binding that has no such function does not link. docs/private.md says why this is not a file of our own over
// libfdb_c.

// optionFirstInBatch is FDBTransactionOptions::FIRST_IN_BATCH, which is marked hidden in fdb.options, so that bindings
// have no method for it: "No other transactions will be applied before this transaction within the same commit
// version."
const optionFirstInBatch = 710

// setOption is the setter behind all of TransactionOptions' methods. (hidden.s lets the compiler accept a function
// without a body.)
//
//go:linkname setOption github.com/apple/foundationdb/bindings/go/src/fdb.TransactionOptions.setOpt
func setOption(opt fdb.TransactionOptions, code int, param []byte) error
