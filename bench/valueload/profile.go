package valueload

import (
	"context"
	"time"

	"github.com/headwaterdb/headwater/bench/load"
)

// profileShort is how long a profile of a removal lasts. A server takes profiles of whole seconds only, and this one
// begins before the removal.
const profileShort = 2 * time.Second

// profileLead is the time that the server gets to begin the profile.
const profileLead = 500 * time.Millisecond

// profile takes a CPU profile of the server for the duration d, if one is wanted. It returns when the profile has
// begun. The channel gets one value when the profile has been written.
func profile(ctx context.Context, o *Options, wanted bool, d time.Duration) <-chan error {
	done := make(chan error, 1)
	if o.Profile == "" || !wanted {
		done <- nil
		return done
	}
	go func() { done <- load.FetchProfile(ctx, o.Endpoint, o.Profile, d) }()
	_ = sleep(ctx, profileLead) // whoever goes on looks at ctx
	return done
}
