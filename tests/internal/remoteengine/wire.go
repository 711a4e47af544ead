package remoteengine

import (
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// op is the kind of a request.
type op uint8

const (
	opCancel op = iota // of the request with the same number; it has no answer
	opLimits
	opSnapshot
	opBegin
	opBeginRecent
	opClose // of a reader
	opGetMany
	opScan
	opCommit
	opWait
	opWaitChange
)

// request is one call. Which fields are used depends on op.
type request struct {
	N         uint64
	Op        op
	Reader    uint64
	Keys      [][]byte // of opGetMany; of opWaitChange key and old value
	Absent    bool     // the old value is
	Range     engine.Range
	Mutations []mutation
}

// response answers the request with the same number.
type response struct {
	N       uint64
	Code    code
	Text    string
	Reader  uint64
	Version uint64
	OK      bool // of opBeginRecent: there is a transaction; of opLimits: the engine has BeginRecent
	Limits  engine.Limits
	Rows    []row // of opGetMany and opScan
	More    bool  // opScan: the page was full
	Stamp   engine.Stamp
}

// row is a row, or a value that may be absent: gob does not distinguish nil from empty.
type row struct {
	Key, Value []byte
	Absent     bool
}

// verb is a method of a transaction.
type verb uint8

const (
	verbSet verb = iota
	verbClear
	verbClearRange
	verbStampedKey
	verbStampedValue
	verbAdd
	verbUseStamps
	verbReadConflict
	verbWriteConflict
)

// mutation is a call of such a method. A and B are its first two slices.
type mutation struct {
	Verb verb
	A, B []byte
	NilB bool // B is nil, which means to the end of the store
	N    int64
}

// code is a class of errors.
type code uint8

// classes are the errors whose class a client must know. The code of an error is its index plus 1.
var classes = []error{
	engine.ErrConflict, engine.ErrUnknownOutcome, engine.ErrTooOld, engine.ErrTooLarge, engine.ErrNoSpace,
	engine.ErrUnavailable,
	engine.ErrClosed, context.Canceled, context.DeadlineExceeded,
}

const otherCode code = 0xff

func codeOf(err error) (code, string) {
	if err == nil {
		return 0, ""
	}
	for i, class := range classes {
		if errors.Is(err, class) {
			return code(i + 1), err.Error()
		}
	}
	return otherCode, err.Error()
}

// remoteError is an error that the server has returned.
type remoteError struct {
	class error
	text  string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.class }

// err is the error of a response.
func (r *response) err() error {
	switch {
	case r.Code == 0:
		return nil
	case int(r.Code) <= len(classes):
		return &remoteError{classes[r.Code-1], r.Text}
	}
	return &remoteError{nil, r.Text}
}
