package admin

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestCodes: whatever a store can answer has a code by which a program knows what to do, and its own words.
func TestCodes(t *testing.T) {
	for err, want := range map[error]codes.Code{
		engine.ErrConflict:       codes.Unavailable,
		engine.ErrUnknownOutcome: codes.Unavailable,
		engine.ErrTooOld:         codes.Unavailable,
		engine.ErrUnavailable:    codes.Unavailable,
		engine.ErrClosed:         codes.Unavailable,
		engine.ErrTooLarge:       codes.InvalidArgument,
		engine.ErrNoSpace:        codes.ResourceExhausted,
		engine.ErrDamaged:        codes.DataLoss,
		mvcc.ErrUnavailable:      codes.Unavailable,
		mvcc.ErrClosed:           codes.Unavailable,
		mvcc.ErrNoSpace:          codes.ResourceExhausted,
		mvcc.ErrCorrupt:          codes.DataLoss,
		mvcc.ErrSetBack:          codes.FailedPrecondition,
		mvcc.ErrNewerFormat:      codes.FailedPrecondition,
		mvcc.ErrCompacted:        codes.OutOfRange,
		context.Canceled:         codes.Canceled,
		errors.New("another"):    codes.Unknown,
	} {
		got := grpcErr(fmt.Errorf("it has failed: %w", err))
		if s := status.Convert(got); s.Code() != want || s.Message() != "it has failed: "+err.Error() {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
