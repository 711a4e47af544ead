package migrate

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// cutOver is a keyspace that somebody has cut over.
type cutOver struct{ adminv1.MigrationClient }

// Followed implements adminv1.MigrationClient.
func (cutOver) Followed(
	context.Context, *adminv1.FollowedRequest, ...grpc.CallOption,
) (*adminv1.FollowedResponse, error) {
	return &adminv1.FollowedResponse{Revision: 9}, nil
}

// Compared implements adminv1.MigrationClient.
func (cutOver) Compared(
	context.Context, *adminv1.ComparedRequest, ...grpc.CallOption,
) (*adminv1.ComparedResponse, error) {
	return nil, status.Error(codes.FailedPrecondition, "it does not follow another one")
}

// TestComparedAfterCutOver: a comparison that somebody else's cut-over comes before, or in the middle of, finds nothing
// wrong: the migration ends as it is meant to.
func TestComparedAfterCutOver(t *testing.T) {
	m := &Migration{Target: &Target{c: cutOver{}, name: "k"}}
	if err := m.compareOnce(t.Context(), true); !errors.Is(err, ErrNotFollowing) {
		t.Errorf("before: %v", err)
	}
	if err := m.compared(t.Context(), 9); !errors.Is(err, ErrNotFollowing) {
		t.Errorf("in the middle: %v", err)
	}
}
