package admin

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// obeys is a host that obeys some settings.
type obeys struct {
	Host
	settings map[string]bool
}

func (o obeys) Enforces(setting string) bool { return o.settings[setting] }

// TestEnforced: the server refuses every setting that its host does not obey, and accepts requests without them.
func TestEnforced(t *testing.T) {
	all := map[string]*adminv1.Settings{"weight": {Weight: 2}}
	fields := (*keyspacev1.Limits)(nil).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		l := new(keyspacev1.Limits)
		l.ProtoReflect().Set(fields.Get(i), protoreflect.ValueOfUint64(7))
		all["limits."+string(fields.Get(i).Name())] = &adminv1.Settings{Limits: l}
	}
	for name, s := range all {
		for other := range all {
			o := Options{Host: obeys{settings: map[string]bool{other: true}}}
			if err := o.checkEnforced(s); (err == nil) != (name == other) {
				t.Errorf("%s where only %s is obeyed: %v", name, other, err)
			}
		}
	}
	if err := (&Options{Host: obeys{}}).checkEnforced(&adminv1.Settings{Weight: 1}); err != nil {
		t.Error("what is the default:", err)
	}
}

// TestElectionName: elections are shown by what they are about.
func TestElectionName(t *testing.T) {
	for key, want := range map[string]string{
		"compactor/": "compactor", "tailer/": "tailer", "lease/s\x00": "lease shard 0", "lease/s\x0f": "lease shard 15",
		"lease/s/": "lease shard 47", "s": "s", "": "",
	} {
		if got := electionName([]byte(key)); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

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
