//go:build foundationdb

package foundationdb

import (
	"errors"
	"fmt"
	"testing"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
)

// TestErrorTable has every code that a client can meet (flow/include/flow/error_definitions.h of 7.3.79): its class,
// and what it tells of a commit.
func TestErrorTable(t *testing.T) {
	for _, test := range []struct {
		code    int
		name    string
		class   error
		outcome outcome
	}{
		{1000, "operation_failed", engine.ErrUnavailable, unknownOpen},
		{1004, "timed_out", engine.ErrUnavailable, unknownOpen},
		{1006, "all_alternatives_failed", engine.ErrUnavailable, unknownOpen},
		{1007, "transaction_too_old", engine.ErrTooOld, nothingHappened},
		{1009, "future_version", engine.ErrUnavailable, nothingHappened},
		{1020, "not_committed", engine.ErrConflict, nothingHappened},
		{1021, "commit_unknown_result", engine.ErrUnknownOutcome, unknownSettled},
		{1022, "commit_unknown_result_fatal", engine.ErrUnavailable, unknownOpen},
		{1025, "transaction_cancelled", engine.ErrUnavailable, unknownOpen},
		{1026, "connection_failed", engine.ErrUnavailable, unknownOpen},
		{1027, "coordinators_changed", engine.ErrUnavailable, unknownOpen},
		{1029, "watch_cancelled", engine.ErrUnavailable, unknownOpen},
		{1030, "request_maybe_delivered", engine.ErrUnavailable, unknownOpen},
		{1031, "transaction_timed_out", engine.ErrUnavailable, unknownOpen},
		{1032, "too_many_watches", engine.ErrUnavailable, unknownOpen},
		{1037, "process_behind", engine.ErrUnavailable, nothingHappened},
		{1038, "database_locked", engine.ErrUnavailable, nothingHappened},
		{1039, "cluster_version_changed", engine.ErrUnavailable, unknownOpen},
		{1041, "lookup_failed", engine.ErrUnavailable, unknownOpen},
		{1042, "commit_proxy_memory_limit_exceeded", engine.ErrUnavailable, nothingHappened},
		{1051, "batch_transaction_throttled", engine.ErrUnavailable, nothingHappened},
		{1078, "grv_proxy_memory_limit_exceeded", engine.ErrUnavailable, nothingHappened},
		{1100, "broken_promise", engine.ErrUnavailable, unknownOpen},
		{1101, "operation_cancelled", engine.ErrUnavailable, unknownOpen},
		{1213, "tag_throttled", engine.ErrUnavailable, nothingHappened},
		{1223, "proxy_tag_throttled", engine.ErrUnavailable, nothingHappened},
		{1225, "storage_quota_exceeded", engine.ErrNoSpace, nothingHappened},
		{1500, "platform_error", engine.ErrUnavailable, unknownOpen},
		{1510, "io_error", engine.ErrUnavailable, unknownOpen},
		{1515, "no_cluster_file_found", engine.ErrUnavailable, unknownOpen},
		{2000, "client_invalid_operation", nil, nothingHappened},
		{2004, "key_outside_legal_range", nil, nothingHappened},
		{2005, "inverted_range", nil, nothingHappened},
		{2006, "invalid_option_value", nil, nothingHappened},
		{2007, "invalid_option", nil, nothingHappened},
		{2017, "used_during_commit", nil, nothingHappened},
		{2021, "no_commit_version", nil, nothingHappened},
		{2100, "incompatible_protocol_version", engine.ErrUnavailable, nothingHappened},
		{2101, "transaction_too_large", engine.ErrTooLarge, nothingHappened},
		{2102, "key_too_large", engine.ErrTooLarge, nothingHappened},
		{2103, "value_too_large", engine.ErrTooLarge, nothingHappened},
		{2107, "tls_error", engine.ErrUnavailable, nothingHappened},
		{2108, "unsupported_operation", nil, nothingHappened},
		{2125, "incompatible_client", engine.ErrUnavailable, nothingHappened},
		{2130, "tenant_name_required", nil, nothingHappened},
		{2203, "api_version_not_supported", nil, nothingHappened},
		{4000, "unknown_error", engine.ErrUnavailable, unknownOpen},
		{4100, "internal_error", engine.ErrUnavailable, unknownOpen},
	} {
		err := fmt.Errorf("somewhere: %w", fdb.Error{Code: test.code})
		if got := codeOf(err); got != test.code {
			t.Fatalf("%s: code %d", test.name, got)
		}
		if got := classOf(test.code); got != test.class {
			t.Errorf("%d %s: class %v, want %v", test.code, test.name, got, test.class)
		}
		if got := outcomeOf(test.code); got != test.outcome {
			t.Errorf("%d %s: outcome %v, want %v", test.code, test.name, got, test.outcome)
		}
		var e fdb.Error
		if w := wrap(err); test.class != nil && !errors.Is(w, test.class) || !errors.As(w, &e) {
			t.Errorf("%d %s: wrapped as %v", test.code, test.name, w)
		}
	}
}
