//go:build foundationdb

package foundationdb

import (
	_ "unsafe" // for linkname

	"github.com/apple/foundationdb/bindings/go/src/fdb"
)

// These parts of Apple's binding are needed and not exported. They fit the version in go.mod; a binding without such a
// function does not link. docs/private.md explains why this is not a C file over libfdb_c.

// optionFirstInBatch is FDBTransactionOptions::FIRST_IN_BATCH, which is marked hidden in fdb.options, so that bindings
// have no method for it: "No other transactions will be applied before this transaction within the same commit
// version."
const optionFirstInBatch = 710

// setOption is the setter behind all of TransactionOptions' methods. (hidden.s lets the compiler accept a function
// without a body.)
//
//go:linkname setOption github.com/apple/foundationdb/bindings/go/src/fdb.TransactionOptions.setOpt
func setOption(opt fdb.TransactionOptions, code int, param []byte) error
