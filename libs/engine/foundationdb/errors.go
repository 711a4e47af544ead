//go:build foundationdb

package foundationdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
)

// FoundationDB's error codes (flow/include/flow/error_definitions.h) that are treated one by one.
const (
	codeTooOld             = 1007
	codeConflict           = 1020
	codeUnknownResult      = 1021
	codeTxnCancelled       = 1025
	codeWatchCancelled     = 1029
	codeTooManyWatches     = 1032
	codeOperationCancelled = 1101
	codeStorageQuota       = 1225
	codeTxnTooLarge        = 2101
	codeKeyTooLarge        = 2102
	codeValueTooLarge      = 2103
)

// refused are the codes, besides the client's own (2000 …), with which a commit fails without having happened: those
// of FDB_ERROR_PREDICATE_RETRYABLE_NOT_COMMITTED, and the quota.
var refused = map[int]bool{
	codeConflict:     true,
	codeTooOld:       true,
	1009:             true, // future_version
	1037:             true, // process_behind
	1038:             true, // database_locked
	1042:             true, // commit_proxy_memory_limit_exceeded
	1051:             true, // batch_transaction_throttled
	1078:             true, // grv_proxy_memory_limit_exceeded
	1213:             true, // tag_throttled
	1223:             true, // proxy_tag_throttled
	codeStorageQuota: true,
}

// Codes from callerFirst to callerLast mean a wrong call: it never left the client, and another attempt would fail too.
const (
	callerFirst = 2000
	callerLast  = 2999
)

// classOf returns the class of a code; nil if it has none, because the call was wrong.
func classOf(code int) error {
	switch code {
	case codeConflict:
		return engine.ErrConflict
	case codeUnknownResult:
		return engine.ErrUnknownOutcome
	case codeTooOld:
		return engine.ErrTooOld
	case codeTxnTooLarge, codeKeyTooLarge, codeValueTooLarge:
		return engine.ErrTooLarge
	case codeStorageQuota:
		return engine.ErrNoSpace
	case 2100, 2107, 2123, 2124, 2125: // the cluster speaks another protocol, or TLS fails: an operator may repair it
		return engine.ErrUnavailable
	}
	if code >= callerFirst && code <= callerLast {
		return nil
	}
	// Future versions, processes that are behind, throttling, memory limits, a locked database, timeouts, the errors of
	// a cluster that recovers, and errors inside the client library.
	return engine.ErrUnavailable
}

// outcome is what an error of a commit tells about the commit.
type outcome int

const (
	nothingHappened outcome = iota // the class of the error says why
	unknownSettled                 // it happened or it did not, and is no longer under way
	unknownOpen                    // it may still be under way: fence it
)

// outcomeOf returns what a commit's error code means. 1039 (the cluster's version has changed; only with several client
// libraries) and timeouts leave a commit open, and so does every code that is not known to be a refusal.
func outcomeOf(code int) outcome {
	switch {
	case code == codeUnknownResult:
		return unknownSettled
	case refused[code], code >= callerFirst && code <= callerLast:
		return nothingHappened
	}
	return unknownOpen
}

// codeOf returns the code of an error of the binding, 0 for others.
func codeOf(err error) int {
	var e fdb.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// cancelled reports whether err is that of a future that was cancelled, by itself or with its transaction.
func cancelled(err error) bool {
	code := codeOf(err)
	return code == codeOperationCancelled || code == codeTxnCancelled
}

// wrap adds its class to an error of the binding.
func wrap(err error) error {
	class := classOf(codeOf(err))
	if class == nil {
		return fmt.Errorf("foundationdb: %w", err)
	}
	return fmt.Errorf("%w: %w", class, err)
}

// readErr returns the error of a read, of a request for a read version, or of a watch. A cancelled one has reached the
// limit of ctx or of Options.Timeout, or the store has been closed.
func (s *Store) readErr(ctx context.Context, err error) error {
	if cancelled(err) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.state(); err != nil {
			return err
		}
		return fmt.Errorf("%w: no answer within %v", engine.ErrUnavailable, s.o.Timeout)
	}
	return wrap(err)
}
